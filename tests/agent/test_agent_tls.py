"""The agent and TLS: mutual TLS in both dialects, every way to get it wrong, and certificates changed while it runs."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.support import eventually
from tests.support.certificates import Authority
from tests.support.cluster import Admin, Cluster

Start = Callable[..., Agent]


def security(directory: Path, authority: Authority, role: str, name: str) -> Path:
    """Write a security.toml for an admin or a worker, with a certificate of that name."""
    directory.mkdir(parents=True, exist_ok=True)
    certificate, key = authority.issue(name, san=f"DNS:{name}.example")
    for source, target in ((authority.ca, "ca.crt"), (certificate, "own.crt"), (key, "own.key")):
        shutil.copyfile(source, directory / target)
    (directory / "security.toml").write_text(
        f'[grpc]\nca = "{directory}/ca.crt"\n[grpc.{role}]\ncert = "{directory}/own.crt"\nkey = "{directory}/own.key"\n'
    )
    return directory


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The cluster's certificate authority."""
    return Authority(tmp_path / "ca")


@pytest.fixture
def secure_admin(sandbox_cluster: Cluster, authority: Authority, dialect: str) -> Iterator[Admin]:
    """An admin that demands certificates of that authority; no certificate names its address."""
    folder = security(sandbox_cluster.directory / "admin0", authority, "admin", "admin")
    yield sandbox_cluster.start_admin(dialect, *(["-era=4.13"] if dialect == "classic" else []))
    (folder / "security.toml").unlink()  # the next test's admin starts in this folder, too


def test_the_right_certificates_bring_a_worker_in(
    secure_admin: Admin, authority: Authority, dialect: str, start_agent: Start, tmp_path: Path
) -> None:
    agent = start_agent(flags_for(secure_admin), f"-config_dir={security(tmp_path / 'w', authority, 'worker', 'w1')}")
    agent.says(f"{dialect} dialect, mTLS with .*own.crt \\(valid until")
    agent.says("registered as")
    assert Driver(secure_admin, dialect).workers()
    assert "no TLS is configured" not in agent.text


def test_an_admin_of_another_authority_is_not_trusted(secure_admin: Admin, start_agent: Start, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    agent = start_agent(flags_for(secure_admin), f"-config_dir={security(tmp_path / 'w', other, 'worker', 'w1')}")
    agent.says("its certificate is not trusted.*\\[grpc\\] ca of each must have signed the other's")
    agent.says("connecting to admin again")
    assert "registered as" not in agent.text


def test_a_worker_of_another_authority_is_told_that_admin_refuses_its_certificate(
    secure_admin: Admin, authority: Authority, start_agent: Start, tmp_path: Path
) -> None:
    folder = security(tmp_path / "w", Authority(tmp_path / "other"), "worker", "w1")
    shutil.copyfile(authority.ca, folder / "ca.crt")
    agent = start_agent(flags_for(secure_admin), f"-config_dir={folder}")
    agent.says("signed by another CA than ours")
    agent.says("it refuses our certificate, perhaps .*\\[grpc\\] ca of each must have signed the other's")
    agent.says("connecting to admin again")
    assert "registered as" not in agent.text


def test_a_worker_without_certificates_is_told_that_admin_may_want_tls(
    secure_admin: Admin, start_agent: Start, tmp_path: Path
) -> None:
    (tmp_path / "security.toml").write_text("")
    agent = start_agent(flags_for(secure_admin), f"-config_dir={tmp_path}")
    agent.says("it wants TLS .*must both have certificates in security.toml")
    agent.says("connecting to admin again")
    assert agent.process.poll() is None


def test_a_worker_with_certificates_is_told_that_admin_speaks_no_tls(
    driver: Driver, authority: Authority, start_agent: Start, tmp_path: Path
) -> None:
    agent = start_agent(flags_for(driver.admin), f"-config_dir={security(tmp_path / 'w', authority, 'worker', 'w1')}")
    agent.says("it speaks no TLS.*must both have certificates in security.toml")
    agent.says("connecting to admin again")
    assert not driver.workers()


def test_new_certificates_are_taken_over_by_sighup(
    secure_admin: Admin, authority: Authority, dialect: str, start_agent: Start, tmp_path: Path
) -> None:
    folder = security(tmp_path / "w", Authority(tmp_path / "other"), "worker", "w1")
    agent = start_agent(flags_for(secure_admin), f"-config_dir={folder}")
    agent.says("connecting to admin again")
    security(folder, authority, "worker", "w2")
    agent.process.send_signal(signal.SIGHUP)
    agent.says("reloaded")
    agent.says("registered as", 40)
    (folder / "own.key").write_text("no key")
    agent.process.send_signal(signal.SIGHUP)
    agent.says("certificates not reloaded: .*own.key.*; what was stays in use: mTLS with .*own.crt")
    (folder / "security.toml").write_text("[grpc")
    agent.process.send_signal(signal.SIGHUP)
    agent.says("certificates not reloaded: .*security.toml cannot be read.*; what was stays in use: mTLS")
    assert eventually(Driver(secure_admin, dialect).workers)


def test_unusable_certificates_mean_plaintext_only_where_that_is_asked_for(
    driver: Driver, authority: Authority, start_agent: Start, tmp_path: Path
) -> None:
    folder = security(tmp_path / "w", authority, "worker", "w1")
    (folder / "own.key").unlink()
    refused = start_agent(flags_for(driver.admin), f"-config_dir={folder}", name="strict")
    assert refused.wait() == 2
    assert "own.key" in refused.text
    agent = start_agent(flags_for(driver.admin), f"-config_dir={folder}", "-tlsFallback")
    agent.says("TLS is off although it is configured: .*own.key")
    agent.says("registered as")
