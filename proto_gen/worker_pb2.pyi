from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkerMessage(_message.Message):
    __slots__ = ("worker_id", "timestamp", "registration", "heartbeat", "task_request", "task_update", "task_complete", "shutdown", "task_log_response")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    TASK_REQUEST_FIELD_NUMBER: _ClassVar[int]
    TASK_UPDATE_FIELD_NUMBER: _ClassVar[int]
    TASK_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    SHUTDOWN_FIELD_NUMBER: _ClassVar[int]
    TASK_LOG_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    timestamp: int
    registration: WorkerRegistration
    heartbeat: WorkerHeartbeat
    task_request: TaskRequest
    task_update: TaskUpdate
    task_complete: TaskComplete
    shutdown: WorkerShutdown
    task_log_response: TaskLogResponse
    def __init__(self, worker_id: _Optional[str] = ..., timestamp: _Optional[int] = ..., registration: _Optional[_Union[WorkerRegistration, _Mapping]] = ..., heartbeat: _Optional[_Union[WorkerHeartbeat, _Mapping]] = ..., task_request: _Optional[_Union[TaskRequest, _Mapping]] = ..., task_update: _Optional[_Union[TaskUpdate, _Mapping]] = ..., task_complete: _Optional[_Union[TaskComplete, _Mapping]] = ..., shutdown: _Optional[_Union[WorkerShutdown, _Mapping]] = ..., task_log_response: _Optional[_Union[TaskLogResponse, _Mapping]] = ...) -> None: ...

class AdminMessage(_message.Message):
    __slots__ = ("admin_id", "timestamp", "registration_response", "heartbeat_response", "task_assignment", "task_cancellation", "admin_shutdown", "task_log_request")
    ADMIN_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    TASK_ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    TASK_CANCELLATION_FIELD_NUMBER: _ClassVar[int]
    ADMIN_SHUTDOWN_FIELD_NUMBER: _ClassVar[int]
    TASK_LOG_REQUEST_FIELD_NUMBER: _ClassVar[int]
    admin_id: str
    timestamp: int
    registration_response: RegistrationResponse
    heartbeat_response: HeartbeatResponse
    task_assignment: TaskAssignment
    task_cancellation: TaskCancellation
    admin_shutdown: AdminShutdown
    task_log_request: TaskLogRequest
    def __init__(self, admin_id: _Optional[str] = ..., timestamp: _Optional[int] = ..., registration_response: _Optional[_Union[RegistrationResponse, _Mapping]] = ..., heartbeat_response: _Optional[_Union[HeartbeatResponse, _Mapping]] = ..., task_assignment: _Optional[_Union[TaskAssignment, _Mapping]] = ..., task_cancellation: _Optional[_Union[TaskCancellation, _Mapping]] = ..., admin_shutdown: _Optional[_Union[AdminShutdown, _Mapping]] = ..., task_log_request: _Optional[_Union[TaskLogRequest, _Mapping]] = ...) -> None: ...

class WorkerRegistration(_message.Message):
    __slots__ = ("worker_id", "address", "capabilities", "max_concurrent", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    address: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    max_concurrent: int
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, worker_id: _Optional[str] = ..., address: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., max_concurrent: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RegistrationResponse(_message.Message):
    __slots__ = ("success", "message", "assigned_worker_id")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    success: bool
    message: str
    assigned_worker_id: str
    def __init__(self, success: _Optional[bool] = ..., message: _Optional[str] = ..., assigned_worker_id: _Optional[str] = ...) -> None: ...

class WorkerHeartbeat(_message.Message):
    __slots__ = ("worker_id", "status", "current_load", "max_concurrent", "current_task_ids", "tasks_completed", "tasks_failed", "uptime_seconds")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_LOAD_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_FIELD_NUMBER: _ClassVar[int]
    CURRENT_TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    TASKS_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    TASKS_FAILED_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    status: str
    current_load: int
    max_concurrent: int
    current_task_ids: _containers.RepeatedScalarFieldContainer[str]
    tasks_completed: int
    tasks_failed: int
    uptime_seconds: int
    def __init__(self, worker_id: _Optional[str] = ..., status: _Optional[str] = ..., current_load: _Optional[int] = ..., max_concurrent: _Optional[int] = ..., current_task_ids: _Optional[_Iterable[str]] = ..., tasks_completed: _Optional[int] = ..., tasks_failed: _Optional[int] = ..., uptime_seconds: _Optional[int] = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ("success", "message")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    success: bool
    message: str
    def __init__(self, success: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...

class TaskRequest(_message.Message):
    __slots__ = ("worker_id", "capabilities", "available_slots")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_SLOTS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    available_slots: int
    def __init__(self, worker_id: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., available_slots: _Optional[int] = ...) -> None: ...

class TaskAssignment(_message.Message):
    __slots__ = ("task_id", "task_type", "params", "priority", "created_time", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_TYPE_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    CREATED_TIME_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    task_type: str
    params: TaskParams
    priority: int
    created_time: int
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, task_id: _Optional[str] = ..., task_type: _Optional[str] = ..., params: _Optional[_Union[TaskParams, _Mapping]] = ..., priority: _Optional[int] = ..., created_time: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class TaskParams(_message.Message):
    __slots__ = ("task_id", "volume_id", "collection", "data_center", "rack", "volume_size", "sources", "targets", "vacuum_params", "erasure_coding_params", "balance_params", "replication_params", "ec_balance_params", "s3_lifecycle_params")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    VOLUME_ID_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    DATA_CENTER_FIELD_NUMBER: _ClassVar[int]
    RACK_FIELD_NUMBER: _ClassVar[int]
    VOLUME_SIZE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    VACUUM_PARAMS_FIELD_NUMBER: _ClassVar[int]
    ERASURE_CODING_PARAMS_FIELD_NUMBER: _ClassVar[int]
    BALANCE_PARAMS_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_PARAMS_FIELD_NUMBER: _ClassVar[int]
    EC_BALANCE_PARAMS_FIELD_NUMBER: _ClassVar[int]
    S3_LIFECYCLE_PARAMS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    volume_id: int
    collection: str
    data_center: str
    rack: str
    volume_size: int
    sources: _containers.RepeatedCompositeFieldContainer[TaskSource]
    targets: _containers.RepeatedCompositeFieldContainer[TaskTarget]
    vacuum_params: VacuumTaskParams
    erasure_coding_params: ErasureCodingTaskParams
    balance_params: BalanceTaskParams
    replication_params: ReplicationTaskParams
    ec_balance_params: EcBalanceTaskParams
    s3_lifecycle_params: S3LifecycleParams
    def __init__(self, task_id: _Optional[str] = ..., volume_id: _Optional[int] = ..., collection: _Optional[str] = ..., data_center: _Optional[str] = ..., rack: _Optional[str] = ..., volume_size: _Optional[int] = ..., sources: _Optional[_Iterable[_Union[TaskSource, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[TaskTarget, _Mapping]]] = ..., vacuum_params: _Optional[_Union[VacuumTaskParams, _Mapping]] = ..., erasure_coding_params: _Optional[_Union[ErasureCodingTaskParams, _Mapping]] = ..., balance_params: _Optional[_Union[BalanceTaskParams, _Mapping]] = ..., replication_params: _Optional[_Union[ReplicationTaskParams, _Mapping]] = ..., ec_balance_params: _Optional[_Union[EcBalanceTaskParams, _Mapping]] = ..., s3_lifecycle_params: _Optional[_Union[S3LifecycleParams, _Mapping]] = ...) -> None: ...

class S3LifecycleParams(_message.Message):
    __slots__ = ("subtype", "bucket", "rule_hash", "force", "batch_time_budget_ns", "batch_event_budget", "continuation", "shard_id")
    class Subtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SUBTYPE_UNSPECIFIED: _ClassVar[S3LifecycleParams.Subtype]
        READ: _ClassVar[S3LifecycleParams.Subtype]
        BOOTSTRAP: _ClassVar[S3LifecycleParams.Subtype]
        DRAIN: _ClassVar[S3LifecycleParams.Subtype]
    SUBTYPE_UNSPECIFIED: S3LifecycleParams.Subtype
    READ: S3LifecycleParams.Subtype
    BOOTSTRAP: S3LifecycleParams.Subtype
    DRAIN: S3LifecycleParams.Subtype
    SUBTYPE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    RULE_HASH_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    BATCH_TIME_BUDGET_NS_FIELD_NUMBER: _ClassVar[int]
    BATCH_EVENT_BUDGET_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    SHARD_ID_FIELD_NUMBER: _ClassVar[int]
    subtype: S3LifecycleParams.Subtype
    bucket: str
    rule_hash: bytes
    force: bool
    batch_time_budget_ns: int
    batch_event_budget: int
    continuation: ContinuationHint
    shard_id: int
    def __init__(self, subtype: _Optional[_Union[S3LifecycleParams.Subtype, str]] = ..., bucket: _Optional[str] = ..., rule_hash: _Optional[bytes] = ..., force: _Optional[bool] = ..., batch_time_budget_ns: _Optional[int] = ..., batch_event_budget: _Optional[int] = ..., continuation: _Optional[_Union[ContinuationHint, _Mapping]] = ..., shard_id: _Optional[int] = ...) -> None: ...

class ContinuationHint(_message.Message):
    __slots__ = ("last_scanned_path", "last_position_ns")
    LAST_SCANNED_PATH_FIELD_NUMBER: _ClassVar[int]
    LAST_POSITION_NS_FIELD_NUMBER: _ClassVar[int]
    last_scanned_path: str
    last_position_ns: int
    def __init__(self, last_scanned_path: _Optional[str] = ..., last_position_ns: _Optional[int] = ...) -> None: ...

class VacuumTaskParams(_message.Message):
    __slots__ = ("garbage_threshold", "force_vacuum", "batch_size", "working_dir", "verify_checksum")
    GARBAGE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FORCE_VACUUM_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIR_FIELD_NUMBER: _ClassVar[int]
    VERIFY_CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    garbage_threshold: float
    force_vacuum: bool
    batch_size: int
    working_dir: str
    verify_checksum: bool
    def __init__(self, garbage_threshold: _Optional[float] = ..., force_vacuum: _Optional[bool] = ..., batch_size: _Optional[int] = ..., working_dir: _Optional[str] = ..., verify_checksum: _Optional[bool] = ...) -> None: ...

class ErasureCodingTaskParams(_message.Message):
    __slots__ = ("estimated_shard_size", "data_shards", "parity_shards", "working_dir", "master_client", "cleanup_source", "source_disk_type", "encode_ts_ns")
    ESTIMATED_SHARD_SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_SHARDS_FIELD_NUMBER: _ClassVar[int]
    PARITY_SHARDS_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIR_FIELD_NUMBER: _ClassVar[int]
    MASTER_CLIENT_FIELD_NUMBER: _ClassVar[int]
    CLEANUP_SOURCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_DISK_TYPE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_TS_NS_FIELD_NUMBER: _ClassVar[int]
    estimated_shard_size: int
    data_shards: int
    parity_shards: int
    working_dir: str
    master_client: str
    cleanup_source: bool
    source_disk_type: str
    encode_ts_ns: int
    def __init__(self, estimated_shard_size: _Optional[int] = ..., data_shards: _Optional[int] = ..., parity_shards: _Optional[int] = ..., working_dir: _Optional[str] = ..., master_client: _Optional[str] = ..., cleanup_source: _Optional[bool] = ..., source_disk_type: _Optional[str] = ..., encode_ts_ns: _Optional[int] = ...) -> None: ...

class TaskSource(_message.Message):
    __slots__ = ("node", "disk_id", "rack", "data_center", "volume_id", "shard_ids", "estimated_size")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    RACK_FIELD_NUMBER: _ClassVar[int]
    DATA_CENTER_FIELD_NUMBER: _ClassVar[int]
    VOLUME_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_IDS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_SIZE_FIELD_NUMBER: _ClassVar[int]
    node: str
    disk_id: int
    rack: str
    data_center: str
    volume_id: int
    shard_ids: _containers.RepeatedScalarFieldContainer[int]
    estimated_size: int
    def __init__(self, node: _Optional[str] = ..., disk_id: _Optional[int] = ..., rack: _Optional[str] = ..., data_center: _Optional[str] = ..., volume_id: _Optional[int] = ..., shard_ids: _Optional[_Iterable[int]] = ..., estimated_size: _Optional[int] = ...) -> None: ...

class TaskTarget(_message.Message):
    __slots__ = ("node", "disk_id", "rack", "data_center", "volume_id", "shard_ids", "estimated_size")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DISK_ID_FIELD_NUMBER: _ClassVar[int]
    RACK_FIELD_NUMBER: _ClassVar[int]
    DATA_CENTER_FIELD_NUMBER: _ClassVar[int]
    VOLUME_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_IDS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_SIZE_FIELD_NUMBER: _ClassVar[int]
    node: str
    disk_id: int
    rack: str
    data_center: str
    volume_id: int
    shard_ids: _containers.RepeatedScalarFieldContainer[int]
    estimated_size: int
    def __init__(self, node: _Optional[str] = ..., disk_id: _Optional[int] = ..., rack: _Optional[str] = ..., data_center: _Optional[str] = ..., volume_id: _Optional[int] = ..., shard_ids: _Optional[_Iterable[int]] = ..., estimated_size: _Optional[int] = ...) -> None: ...

class BalanceMoveSpec(_message.Message):
    __slots__ = ("volume_id", "source_node", "target_node", "collection", "volume_size")
    VOLUME_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NODE_FIELD_NUMBER: _ClassVar[int]
    TARGET_NODE_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    VOLUME_SIZE_FIELD_NUMBER: _ClassVar[int]
    volume_id: int
    source_node: str
    target_node: str
    collection: str
    volume_size: int
    def __init__(self, volume_id: _Optional[int] = ..., source_node: _Optional[str] = ..., target_node: _Optional[str] = ..., collection: _Optional[str] = ..., volume_size: _Optional[int] = ...) -> None: ...

class BalanceTaskParams(_message.Message):
    __slots__ = ("force_move", "timeout_seconds", "max_concurrent_moves", "moves", "io_byte_per_second")
    FORCE_MOVE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_MOVES_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    IO_BYTE_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    force_move: bool
    timeout_seconds: int
    max_concurrent_moves: int
    moves: _containers.RepeatedCompositeFieldContainer[BalanceMoveSpec]
    io_byte_per_second: int
    def __init__(self, force_move: _Optional[bool] = ..., timeout_seconds: _Optional[int] = ..., max_concurrent_moves: _Optional[int] = ..., moves: _Optional[_Iterable[_Union[BalanceMoveSpec, _Mapping]]] = ..., io_byte_per_second: _Optional[int] = ...) -> None: ...

class ReplicationTaskParams(_message.Message):
    __slots__ = ("replica_count", "verify_consistency")
    REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    VERIFY_CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    replica_count: int
    verify_consistency: bool
    def __init__(self, replica_count: _Optional[int] = ..., verify_consistency: _Optional[bool] = ...) -> None: ...

class TaskUpdate(_message.Message):
    __slots__ = ("task_id", "worker_id", "status", "progress", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    worker_id: str
    status: str
    progress: float
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, task_id: _Optional[str] = ..., worker_id: _Optional[str] = ..., status: _Optional[str] = ..., progress: _Optional[float] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class TaskComplete(_message.Message):
    __slots__ = ("task_id", "worker_id", "success", "error_message", "completion_time", "result_metadata")
    class ResultMetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TIME_FIELD_NUMBER: _ClassVar[int]
    RESULT_METADATA_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    worker_id: str
    success: bool
    error_message: str
    completion_time: int
    result_metadata: _containers.ScalarMap[str, str]
    def __init__(self, task_id: _Optional[str] = ..., worker_id: _Optional[str] = ..., success: _Optional[bool] = ..., error_message: _Optional[str] = ..., completion_time: _Optional[int] = ..., result_metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class TaskCancellation(_message.Message):
    __slots__ = ("task_id", "reason", "force")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    reason: str
    force: bool
    def __init__(self, task_id: _Optional[str] = ..., reason: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class WorkerShutdown(_message.Message):
    __slots__ = ("worker_id", "reason", "pending_task_ids")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PENDING_TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    reason: str
    pending_task_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, worker_id: _Optional[str] = ..., reason: _Optional[str] = ..., pending_task_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class AdminShutdown(_message.Message):
    __slots__ = ("reason", "graceful_shutdown_seconds")
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACEFUL_SHUTDOWN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    graceful_shutdown_seconds: int
    def __init__(self, reason: _Optional[str] = ..., graceful_shutdown_seconds: _Optional[int] = ...) -> None: ...

class TaskLogRequest(_message.Message):
    __slots__ = ("task_id", "worker_id", "include_metadata", "max_entries", "log_level", "start_time", "end_time")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_METADATA_FIELD_NUMBER: _ClassVar[int]
    MAX_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    LOG_LEVEL_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    worker_id: str
    include_metadata: bool
    max_entries: int
    log_level: str
    start_time: int
    end_time: int
    def __init__(self, task_id: _Optional[str] = ..., worker_id: _Optional[str] = ..., include_metadata: _Optional[bool] = ..., max_entries: _Optional[int] = ..., log_level: _Optional[str] = ..., start_time: _Optional[int] = ..., end_time: _Optional[int] = ...) -> None: ...

class TaskLogResponse(_message.Message):
    __slots__ = ("task_id", "worker_id", "success", "error_message", "metadata", "log_entries")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    LOG_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    worker_id: str
    success: bool
    error_message: str
    metadata: TaskLogMetadata
    log_entries: _containers.RepeatedCompositeFieldContainer[TaskLogEntry]
    def __init__(self, task_id: _Optional[str] = ..., worker_id: _Optional[str] = ..., success: _Optional[bool] = ..., error_message: _Optional[str] = ..., metadata: _Optional[_Union[TaskLogMetadata, _Mapping]] = ..., log_entries: _Optional[_Iterable[_Union[TaskLogEntry, _Mapping]]] = ...) -> None: ...

class TaskLogMetadata(_message.Message):
    __slots__ = ("task_id", "task_type", "worker_id", "start_time", "end_time", "duration_ms", "status", "progress", "volume_id", "server", "collection", "log_file_path", "created_at", "custom_data")
    class CustomDataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_TYPE_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    VOLUME_ID_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    LOG_FILE_PATH_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_DATA_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    task_type: str
    worker_id: str
    start_time: int
    end_time: int
    duration_ms: int
    status: str
    progress: float
    volume_id: int
    server: str
    collection: str
    log_file_path: str
    created_at: int
    custom_data: _containers.ScalarMap[str, str]
    def __init__(self, task_id: _Optional[str] = ..., task_type: _Optional[str] = ..., worker_id: _Optional[str] = ..., start_time: _Optional[int] = ..., end_time: _Optional[int] = ..., duration_ms: _Optional[int] = ..., status: _Optional[str] = ..., progress: _Optional[float] = ..., volume_id: _Optional[int] = ..., server: _Optional[str] = ..., collection: _Optional[str] = ..., log_file_path: _Optional[str] = ..., created_at: _Optional[int] = ..., custom_data: _Optional[_Mapping[str, str]] = ...) -> None: ...

class TaskLogEntry(_message.Message):
    __slots__ = ("timestamp", "level", "message", "fields", "progress", "status")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    level: str
    message: str
    fields: _containers.ScalarMap[str, str]
    progress: float
    status: str
    def __init__(self, timestamp: _Optional[int] = ..., level: _Optional[str] = ..., message: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ..., progress: _Optional[float] = ..., status: _Optional[str] = ...) -> None: ...

class MaintenanceConfig(_message.Message):
    __slots__ = ("enabled", "scan_interval_seconds", "worker_timeout_seconds", "task_timeout_seconds", "retry_delay_seconds", "max_retries", "cleanup_interval_seconds", "task_retention_seconds", "policy")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    SCAN_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WORKER_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TASK_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_RETRIES_FIELD_NUMBER: _ClassVar[int]
    CLEANUP_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TASK_RETENTION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    scan_interval_seconds: int
    worker_timeout_seconds: int
    task_timeout_seconds: int
    retry_delay_seconds: int
    max_retries: int
    cleanup_interval_seconds: int
    task_retention_seconds: int
    policy: MaintenancePolicy
    def __init__(self, enabled: _Optional[bool] = ..., scan_interval_seconds: _Optional[int] = ..., worker_timeout_seconds: _Optional[int] = ..., task_timeout_seconds: _Optional[int] = ..., retry_delay_seconds: _Optional[int] = ..., max_retries: _Optional[int] = ..., cleanup_interval_seconds: _Optional[int] = ..., task_retention_seconds: _Optional[int] = ..., policy: _Optional[_Union[MaintenancePolicy, _Mapping]] = ...) -> None: ...

class MaintenancePolicy(_message.Message):
    __slots__ = ("task_policies", "global_max_concurrent", "default_repeat_interval_seconds", "default_check_interval_seconds")
    class TaskPoliciesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: TaskPolicy
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[TaskPolicy, _Mapping]] = ...) -> None: ...
    TASK_POLICIES_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_MAX_CONCURRENT_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_REPEAT_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_CHECK_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    task_policies: _containers.MessageMap[str, TaskPolicy]
    global_max_concurrent: int
    default_repeat_interval_seconds: int
    default_check_interval_seconds: int
    def __init__(self, task_policies: _Optional[_Mapping[str, TaskPolicy]] = ..., global_max_concurrent: _Optional[int] = ..., default_repeat_interval_seconds: _Optional[int] = ..., default_check_interval_seconds: _Optional[int] = ...) -> None: ...

class TaskPolicy(_message.Message):
    __slots__ = ("enabled", "max_concurrent", "repeat_interval_seconds", "check_interval_seconds", "vacuum_config", "erasure_coding_config", "balance_config", "replication_config", "ec_balance_config")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_FIELD_NUMBER: _ClassVar[int]
    REPEAT_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CHECK_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    VACUUM_CONFIG_FIELD_NUMBER: _ClassVar[int]
    ERASURE_CODING_CONFIG_FIELD_NUMBER: _ClassVar[int]
    BALANCE_CONFIG_FIELD_NUMBER: _ClassVar[int]
    REPLICATION_CONFIG_FIELD_NUMBER: _ClassVar[int]
    EC_BALANCE_CONFIG_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    max_concurrent: int
    repeat_interval_seconds: int
    check_interval_seconds: int
    vacuum_config: VacuumTaskConfig
    erasure_coding_config: ErasureCodingTaskConfig
    balance_config: BalanceTaskConfig
    replication_config: ReplicationTaskConfig
    ec_balance_config: EcBalanceTaskConfig
    def __init__(self, enabled: _Optional[bool] = ..., max_concurrent: _Optional[int] = ..., repeat_interval_seconds: _Optional[int] = ..., check_interval_seconds: _Optional[int] = ..., vacuum_config: _Optional[_Union[VacuumTaskConfig, _Mapping]] = ..., erasure_coding_config: _Optional[_Union[ErasureCodingTaskConfig, _Mapping]] = ..., balance_config: _Optional[_Union[BalanceTaskConfig, _Mapping]] = ..., replication_config: _Optional[_Union[ReplicationTaskConfig, _Mapping]] = ..., ec_balance_config: _Optional[_Union[EcBalanceTaskConfig, _Mapping]] = ...) -> None: ...

class VacuumTaskConfig(_message.Message):
    __slots__ = ("garbage_threshold", "min_volume_age_hours", "min_interval_seconds")
    GARBAGE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MIN_VOLUME_AGE_HOURS_FIELD_NUMBER: _ClassVar[int]
    MIN_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    garbage_threshold: float
    min_volume_age_hours: int
    min_interval_seconds: int
    def __init__(self, garbage_threshold: _Optional[float] = ..., min_volume_age_hours: _Optional[int] = ..., min_interval_seconds: _Optional[int] = ...) -> None: ...

class ErasureCodingTaskConfig(_message.Message):
    __slots__ = ("fullness_ratio", "quiet_for_seconds", "min_volume_size_mb", "collection_filter", "preferred_tags", "replica_placement")
    FULLNESS_RATIO_FIELD_NUMBER: _ClassVar[int]
    QUIET_FOR_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MIN_VOLUME_SIZE_MB_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FILTER_FIELD_NUMBER: _ClassVar[int]
    PREFERRED_TAGS_FIELD_NUMBER: _ClassVar[int]
    REPLICA_PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    fullness_ratio: float
    quiet_for_seconds: int
    min_volume_size_mb: int
    collection_filter: str
    preferred_tags: _containers.RepeatedScalarFieldContainer[str]
    replica_placement: str
    def __init__(self, fullness_ratio: _Optional[float] = ..., quiet_for_seconds: _Optional[int] = ..., min_volume_size_mb: _Optional[int] = ..., collection_filter: _Optional[str] = ..., preferred_tags: _Optional[_Iterable[str]] = ..., replica_placement: _Optional[str] = ...) -> None: ...

class BalanceTaskConfig(_message.Message):
    __slots__ = ("imbalance_threshold", "min_server_count", "io_byte_per_second")
    IMBALANCE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MIN_SERVER_COUNT_FIELD_NUMBER: _ClassVar[int]
    IO_BYTE_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    imbalance_threshold: float
    min_server_count: int
    io_byte_per_second: int
    def __init__(self, imbalance_threshold: _Optional[float] = ..., min_server_count: _Optional[int] = ..., io_byte_per_second: _Optional[int] = ...) -> None: ...

class ReplicationTaskConfig(_message.Message):
    __slots__ = ("target_replica_count",)
    TARGET_REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    target_replica_count: int
    def __init__(self, target_replica_count: _Optional[int] = ...) -> None: ...

class EcBalanceTaskParams(_message.Message):
    __slots__ = ("disk_type", "max_parallelization", "timeout_seconds", "moves", "dedup_keep_node", "io_byte_per_second")
    DISK_TYPE_FIELD_NUMBER: _ClassVar[int]
    MAX_PARALLELIZATION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    DEDUP_KEEP_NODE_FIELD_NUMBER: _ClassVar[int]
    IO_BYTE_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    disk_type: str
    max_parallelization: int
    timeout_seconds: int
    moves: _containers.RepeatedCompositeFieldContainer[EcShardMoveSpec]
    dedup_keep_node: str
    io_byte_per_second: int
    def __init__(self, disk_type: _Optional[str] = ..., max_parallelization: _Optional[int] = ..., timeout_seconds: _Optional[int] = ..., moves: _Optional[_Iterable[_Union[EcShardMoveSpec, _Mapping]]] = ..., dedup_keep_node: _Optional[str] = ..., io_byte_per_second: _Optional[int] = ...) -> None: ...

class EcShardMoveSpec(_message.Message):
    __slots__ = ("volume_id", "shard_id", "collection", "source_node", "source_disk_id", "target_node", "target_disk_id")
    VOLUME_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_ID_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NODE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_DISK_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_NODE_FIELD_NUMBER: _ClassVar[int]
    TARGET_DISK_ID_FIELD_NUMBER: _ClassVar[int]
    volume_id: int
    shard_id: int
    collection: str
    source_node: str
    source_disk_id: int
    target_node: str
    target_disk_id: int
    def __init__(self, volume_id: _Optional[int] = ..., shard_id: _Optional[int] = ..., collection: _Optional[str] = ..., source_node: _Optional[str] = ..., source_disk_id: _Optional[int] = ..., target_node: _Optional[str] = ..., target_disk_id: _Optional[int] = ...) -> None: ...

class EcBalanceTaskConfig(_message.Message):
    __slots__ = ("imbalance_threshold", "min_server_count", "collection_filter", "disk_type", "preferred_tags", "replica_placement", "io_byte_per_second")
    IMBALANCE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MIN_SERVER_COUNT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FILTER_FIELD_NUMBER: _ClassVar[int]
    DISK_TYPE_FIELD_NUMBER: _ClassVar[int]
    PREFERRED_TAGS_FIELD_NUMBER: _ClassVar[int]
    REPLICA_PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    IO_BYTE_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    imbalance_threshold: float
    min_server_count: int
    collection_filter: str
    disk_type: str
    preferred_tags: _containers.RepeatedScalarFieldContainer[str]
    replica_placement: str
    io_byte_per_second: int
    def __init__(self, imbalance_threshold: _Optional[float] = ..., min_server_count: _Optional[int] = ..., collection_filter: _Optional[str] = ..., disk_type: _Optional[str] = ..., preferred_tags: _Optional[_Iterable[str]] = ..., replica_placement: _Optional[str] = ..., io_byte_per_second: _Optional[int] = ...) -> None: ...

class MaintenanceTaskData(_message.Message):
    __slots__ = ("id", "type", "priority", "status", "volume_id", "server", "collection", "typed_params", "reason", "created_at", "scheduled_at", "started_at", "completed_at", "worker_id", "error", "progress", "retry_count", "max_retries", "created_by", "creation_context", "assignment_history", "detailed_reason", "tags", "creation_metrics")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    VOLUME_ID_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    TYPED_PARAMS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    SCHEDULED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RETRY_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_RETRIES_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATION_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_HISTORY_FIELD_NUMBER: _ClassVar[int]
    DETAILED_REASON_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CREATION_METRICS_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: str
    priority: str
    status: str
    volume_id: int
    server: str
    collection: str
    typed_params: TaskParams
    reason: str
    created_at: int
    scheduled_at: int
    started_at: int
    completed_at: int
    worker_id: str
    error: str
    progress: float
    retry_count: int
    max_retries: int
    created_by: str
    creation_context: str
    assignment_history: _containers.RepeatedCompositeFieldContainer[TaskAssignmentRecord]
    detailed_reason: str
    tags: _containers.ScalarMap[str, str]
    creation_metrics: TaskCreationMetrics
    def __init__(self, id: _Optional[str] = ..., type: _Optional[str] = ..., priority: _Optional[str] = ..., status: _Optional[str] = ..., volume_id: _Optional[int] = ..., server: _Optional[str] = ..., collection: _Optional[str] = ..., typed_params: _Optional[_Union[TaskParams, _Mapping]] = ..., reason: _Optional[str] = ..., created_at: _Optional[int] = ..., scheduled_at: _Optional[int] = ..., started_at: _Optional[int] = ..., completed_at: _Optional[int] = ..., worker_id: _Optional[str] = ..., error: _Optional[str] = ..., progress: _Optional[float] = ..., retry_count: _Optional[int] = ..., max_retries: _Optional[int] = ..., created_by: _Optional[str] = ..., creation_context: _Optional[str] = ..., assignment_history: _Optional[_Iterable[_Union[TaskAssignmentRecord, _Mapping]]] = ..., detailed_reason: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., creation_metrics: _Optional[_Union[TaskCreationMetrics, _Mapping]] = ...) -> None: ...

class TaskAssignmentRecord(_message.Message):
    __slots__ = ("worker_id", "worker_address", "assigned_at", "unassigned_at", "reason")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_AT_FIELD_NUMBER: _ClassVar[int]
    UNASSIGNED_AT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    worker_address: str
    assigned_at: int
    unassigned_at: int
    reason: str
    def __init__(self, worker_id: _Optional[str] = ..., worker_address: _Optional[str] = ..., assigned_at: _Optional[int] = ..., unassigned_at: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class TaskCreationMetrics(_message.Message):
    __slots__ = ("trigger_metric", "metric_value", "threshold", "volume_metrics", "additional_data")
    class AdditionalDataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TRIGGER_METRIC_FIELD_NUMBER: _ClassVar[int]
    METRIC_VALUE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    VOLUME_METRICS_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_DATA_FIELD_NUMBER: _ClassVar[int]
    trigger_metric: str
    metric_value: float
    threshold: float
    volume_metrics: VolumeHealthMetrics
    additional_data: _containers.ScalarMap[str, str]
    def __init__(self, trigger_metric: _Optional[str] = ..., metric_value: _Optional[float] = ..., threshold: _Optional[float] = ..., volume_metrics: _Optional[_Union[VolumeHealthMetrics, _Mapping]] = ..., additional_data: _Optional[_Mapping[str, str]] = ...) -> None: ...

class VolumeHealthMetrics(_message.Message):
    __slots__ = ("total_size", "used_size", "garbage_size", "garbage_ratio", "file_count", "deleted_file_count", "last_modified", "replica_count", "is_ec_volume", "collection")
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    USED_SIZE_FIELD_NUMBER: _ClassVar[int]
    GARBAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    GARBAGE_RATIO_FIELD_NUMBER: _ClassVar[int]
    FILE_COUNT_FIELD_NUMBER: _ClassVar[int]
    DELETED_FILE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_MODIFIED_FIELD_NUMBER: _ClassVar[int]
    REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    IS_EC_VOLUME_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    total_size: int
    used_size: int
    garbage_size: int
    garbage_ratio: float
    file_count: int
    deleted_file_count: int
    last_modified: int
    replica_count: int
    is_ec_volume: bool
    collection: str
    def __init__(self, total_size: _Optional[int] = ..., used_size: _Optional[int] = ..., garbage_size: _Optional[int] = ..., garbage_ratio: _Optional[float] = ..., file_count: _Optional[int] = ..., deleted_file_count: _Optional[int] = ..., last_modified: _Optional[int] = ..., replica_count: _Optional[int] = ..., is_ec_volume: _Optional[bool] = ..., collection: _Optional[str] = ...) -> None: ...

class TaskStateFile(_message.Message):
    __slots__ = ("task", "last_updated", "admin_version")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LAST_UPDATED_FIELD_NUMBER: _ClassVar[int]
    ADMIN_VERSION_FIELD_NUMBER: _ClassVar[int]
    task: MaintenanceTaskData
    last_updated: int
    admin_version: str
    def __init__(self, task: _Optional[_Union[MaintenanceTaskData, _Mapping]] = ..., last_updated: _Optional[int] = ..., admin_version: _Optional[str] = ...) -> None: ...
