"""security.toml: found where SeaweedFS finds it; half configured or unusable is refused, never taken for plaintext."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import Authority, openssl
from weed_cluster import security
from weed_cluster.address import Address
from weed_core.errors import ConfigError


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("worker")


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def write(directory: Path, ca: object = "", cert: object = "", key: object = "", more: object = "") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "security.toml"
    file.write_text(f'[grpc]\nca = "{ca}"\n[grpc.worker]\ncert = "{cert}"\nkey = "{key}"\n{more}\n')
    return file


def test_nothing_configured_is_plaintext_with_a_loud_warning(tmp_path: Path) -> None:
    for _ in range(2):
        found = security.load(environ={})
        assert found.credentials() is None
        assert found.options(Address.parse("127.0.0.1:8080")) == []
        assert found.describe() == "plaintext"
        assert "no TLS is configured" in found.warnings[-1]
        write(tmp_path / "cwd")  # a template with empty values configures nothing either


def test_a_configured_worker_says_what_it_uses(tmp_path: Path, authority: Authority, pair: tuple[Path, Path]) -> None:
    file = write(tmp_path / "conf", authority.ca, *pair)
    found = security.load(tmp_path / "conf", environ={})
    assert found.credentials() is not None
    assert found.warnings == ()
    said = found.describe()
    assert "mTLS" in said
    assert str(pair[0]) in said
    assert "valid until" in said
    assert str(file) in said


def test_the_first_file_found_counts_alone(tmp_path: Path, authority: Authority, pair: tuple[Path, Path]) -> None:
    home = {"HOME": str(tmp_path / "home")}
    write(tmp_path / "home" / ".seaweedfs", authority.ca, *pair)
    assert security.load(environ=home).credentials() is not None
    write(tmp_path / "cwd")
    assert security.load(environ=home).credentials() is None
    write(tmp_path / "conf", authority.ca, *pair)
    assert security.load(tmp_path / "conf", environ=home).credentials() is not None


def test_the_environment_overrides_the_file(tmp_path: Path, authority: Authority, pair: tuple[Path, Path]) -> None:
    write(tmp_path / "cwd", "/nowhere/ca.crt", "/nowhere/w.crt", pair[1])
    found = security.load(environ={"WEED_GRPC_CA": str(authority.ca), "WEED_GRPC_WORKER_CERT": str(pair[0])})
    assert found.credentials() is not None
    assert "WEED_GRPC_CA" in found.describe()
    alone = {"WEED_GRPC_CA": str(authority.ca), "WEED_GRPC_WORKER_CERT": str(pair[0])}
    (tmp_path / "cwd" / "security.toml").unlink()
    assert security.load(environ={**alone, "WEED_GRPC_WORKER_KEY": str(pair[1])}).credentials() is not None


def test_relative_paths_are_the_working_directorys_and_stay_so(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for source, name in ((authority.ca, "ca.crt"), (pair[0], "w.crt"), (pair[1], "w.key")):
        (tmp_path / "cwd" / name).write_bytes(source.read_bytes())
    write(tmp_path / "cwd", "ca.crt", "w.crt", "w.key")
    found = security.load(environ={})
    monkeypatch.chdir(tmp_path)
    found.reload()
    assert found.credentials() is not None


def test_client_cert_and_client_key_are_preferred_where_both_are_set(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path]
) -> None:
    own = authority.issue("client-only", usage="clientAuth")
    both = f'client_cert = "{own[0]}"\nclient_key = "{own[1]}"'
    write(tmp_path / "cwd", authority.ca, *pair, more=both)
    assert str(own[0]) in security.load(environ={}).describe()
    write(tmp_path / "cwd", authority.ca, *pair, more=both.splitlines()[0])
    found = security.load(environ={})
    assert str(pair[0]) in found.describe()
    assert "client_cert and client_key go together" in found.warnings[0]


def test_the_workers_own_ca_goes_before_the_common_one(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path]
) -> None:
    write(tmp_path / "cwd", "/nowhere/ca.crt", *pair, more=f'ca = "{authority.ca}"')
    found = security.load(environ={})
    assert "valid until" in found.describe()
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("missing", "named"), [("ca", r"\[grpc\] ca"), ("cert", r"\[grpc.worker\] cert"), ("key", "key")]
)
def test_half_configured_is_refused_naming_the_key(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path], missing: str, named: str
) -> None:
    values = {"ca": authority.ca, "cert": pair[0], "key": pair[1], missing: ""}
    file = write(tmp_path / "cwd", **values)
    with pytest.raises(ConfigError, match=f"{file.name}.*{named} is not set"):
        security.load(environ={})


@pytest.mark.parametrize("key", ["ca", "cert", "key"])
def test_a_file_that_is_absent_or_no_pem_is_refused_naming_it(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path], key: str
) -> None:
    values = {"ca": authority.ca, "cert": pair[0], "key": pair[1]}
    write(tmp_path / "cwd", **{**values, key: "/nowhere/file.pem"})
    with pytest.raises(ConfigError, match=f"{key} = '/nowhere/file.pem' cannot be read: No such file"):
        security.load(environ={})
    bad = tmp_path / "bad.pem"
    for content in ("", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        bad.write_text(content)
        write(tmp_path / "cwd", **{**values, key: bad})
        with pytest.raises(ConfigError, match=str(bad)):
            security.load(environ={})


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, authority: Authority, pair: tuple[Path, Path]) -> None:
    write(tmp_path / "cwd", authority.ca, pair[0], authority.issue("other")[1])
    with pytest.raises(ConfigError, match="does not fit cert"):
        security.load(environ={})


def test_an_encrypted_key_is_refused_without_asking_for_a_password(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path]
) -> None:
    locked = tmp_path / "locked.key"
    openssl("ec", "-in", pair[1], "-aes256", "-passout", "pass:secret", "-out", locked)
    write(tmp_path / "cwd", authority.ca, pair[0], locked)
    with pytest.raises(ConfigError, match="encrypted"):
        security.load(environ={})


def test_an_expired_certificate_is_refused(tmp_path: Path, authority: Authority) -> None:
    write(tmp_path / "cwd", authority.ca, *authority.issue("old", days=-1))
    with pytest.raises(ConfigError, match="certificate has expired"):
        security.load(environ={})


def test_a_certificate_that_is_only_for_servers_is_refused(tmp_path: Path, authority: Authority) -> None:
    write(tmp_path / "cwd", authority.ca, *authority.issue("server", usage="serverAuth"))
    with pytest.raises(ConfigError, match=r"cannot be used: .*purpose"):
        security.load(environ={})


def test_a_certificate_of_another_authority_is_used_but_told(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    write(tmp_path / "cwd", Authority(tmp_path / "other").ca, *pair)
    found = security.load(environ={})
    assert "signed by another CA" in found.describe()
    assert found.credentials() is not None


def test_unusable_tls_becomes_plaintext_only_where_that_is_asked_for(tmp_path: Path, authority: Authority) -> None:
    write(tmp_path / "cwd", authority.ca)
    found = security.load(fallback=True, environ={})
    assert found.credentials() is None
    assert "TLS is off although it is configured" in found.warnings[0]


@pytest.mark.parametrize("text", ["[grpc", "a = ", '[grpc]\nca = "x', "=\n", "[grpc]\n[grpc]\n"])
def test_a_file_that_is_no_toml_is_refused_naming_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "cwd" / "security.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"security.toml cannot be read"):
        security.load(environ={})


def test_unknown_keys_are_reported(tmp_path: Path, authority: Authority, pair: tuple[Path, Path]) -> None:
    write(tmp_path / "cwd", authority.ca, *pair, more='certt = "x"\nallowed_commonNames = ""')
    assert [warning for warning in security.load(environ={}).warnings if "certt" in warning]
    assert len(security.load(environ={}).warnings) == 1


def test_a_fixed_server_name_needs_no_look_at_the_server(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path]
) -> None:
    write(tmp_path / "cwd", authority.ca, *pair, more='server_name = "admin.example"')
    found = security.load(environ={})
    assert found.options(Address.parse("127.0.0.1:9")) == [("grpc.ssl_target_name_override", "admin.example")]
    assert "admin.example" in found.describe()


def test_a_reload_takes_new_files_and_keeps_the_old_ones_where_they_are_broken(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path]
) -> None:
    files = [tmp_path / "w.crt", tmp_path / "w.key"]
    for source, file in zip(pair, files):
        file.write_bytes(source.read_bytes())
    write(tmp_path / "cwd", authority.ca, *files)
    found = security.load(environ={})
    before = found.describe()
    files[0].write_text("half a file")
    with pytest.raises(ConfigError):
        found.reload()
    assert found.credentials() is not None
    assert found.describe() == before
    for source, file in zip(authority.issue("renewed", days=300), files):
        file.write_bytes(source.read_bytes())
    found.reload()
    assert found.describe() != before


@pytest.mark.parametrize(("made", "says"), [(False, "is no directory"), (True, r"holds no security\.toml")])
def test_a_directory_that_is_named_and_configures_nothing_is_refused(tmp_path: Path, made: bool, says: str) -> None:
    write(tmp_path / "cwd")
    if made:
        (tmp_path / "conf").mkdir()
    with pytest.raises(ConfigError, match=f"-config_dir={tmp_path}/conf {says}"):
        security.load(tmp_path / "conf", environ={})


def test_a_link_that_leads_nowhere_does_not_mean_plaintext(tmp_path: Path) -> None:
    (tmp_path / "cwd" / "security.toml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="cannot be read"):
        security.load(environ={})


def test_a_file_that_cannot_be_used_is_named_with_the_file_that_names_it(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path]
) -> None:
    file = write(tmp_path / "conf", authority.ca, pair[0], tmp_path / "gone.key")
    with pytest.raises(ConfigError, match=rf"{file}: key = '{tmp_path}/gone\.key' cannot be read"):
        security.load(tmp_path / "conf", environ={})
    with pytest.raises(ConfigError, match="is no plain file"):
        security.load(tmp_path / "conf", environ={"WEED_GRPC_WORKER_KEY": "/dev/zero"})


def test_a_reload_reads_security_toml_again_and_keeps_what_was_where_that_cannot_be_read(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path]
) -> None:
    file = tmp_path / "cwd" / "security.toml"
    write(tmp_path / "cwd", authority.ca, *pair)
    found = security.load(environ={})
    before = found.describe()
    for broken, says in (("[grpc\n", "cannot be read"), ("", "no certificates are configured there any more")):
        file.write_text(broken)
        with pytest.raises(ConfigError, match=says):
            found.reload()
        assert (found.describe(), found.is_on) == (before, True)
    file.unlink()
    with pytest.raises(ConfigError, match="no certificates are configured there any more"):
        found.reload()
    other = authority.issue("other")
    write(tmp_path / "cwd", authority.ca, *other)
    found.reload()
    assert str(other[0]) in found.describe()


def test_a_worker_that_began_in_plaintext_takes_over_tls(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path]
) -> None:
    found = security.load(environ={})
    found.reload()
    assert not found.is_on
    write(tmp_path / "cwd", authority.ca, *pair)
    found.reload()
    assert found.is_on
