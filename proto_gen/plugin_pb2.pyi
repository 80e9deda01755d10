import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORK_KIND_UNSPECIFIED: _ClassVar[WorkKind]
    WORK_KIND_DETECTION: _ClassVar[WorkKind]
    WORK_KIND_EXECUTION: _ClassVar[WorkKind]

class JobPriority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_PRIORITY_UNSPECIFIED: _ClassVar[JobPriority]
    JOB_PRIORITY_LOW: _ClassVar[JobPriority]
    JOB_PRIORITY_NORMAL: _ClassVar[JobPriority]
    JOB_PRIORITY_HIGH: _ClassVar[JobPriority]
    JOB_PRIORITY_CRITICAL: _ClassVar[JobPriority]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_PENDING: _ClassVar[JobState]
    JOB_STATE_ASSIGNED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELED: _ClassVar[JobState]

class ConfigFieldType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONFIG_FIELD_TYPE_UNSPECIFIED: _ClassVar[ConfigFieldType]
    CONFIG_FIELD_TYPE_BOOL: _ClassVar[ConfigFieldType]
    CONFIG_FIELD_TYPE_INT64: _ClassVar[ConfigFieldType]
    CONFIG_FIELD_TYPE_DOUBLE: _ClassVar[ConfigFieldType]
    CONFIG_FIELD_TYPE_STRING: _ClassVar[ConfigFieldType]
    CONFIG_FIELD_TYPE_BYTES: _ClassVar[ConfigFieldType]
    CONFIG_FIELD_TYPE_DURATION: _ClassVar[ConfigFieldType]
    CONFIG_FIELD_TYPE_ENUM: _ClassVar[ConfigFieldType]
    CONFIG_FIELD_TYPE_LIST: _ClassVar[ConfigFieldType]
    CONFIG_FIELD_TYPE_OBJECT: _ClassVar[ConfigFieldType]

class ConfigWidget(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONFIG_WIDGET_UNSPECIFIED: _ClassVar[ConfigWidget]
    CONFIG_WIDGET_TOGGLE: _ClassVar[ConfigWidget]
    CONFIG_WIDGET_TEXT: _ClassVar[ConfigWidget]
    CONFIG_WIDGET_TEXTAREA: _ClassVar[ConfigWidget]
    CONFIG_WIDGET_NUMBER: _ClassVar[ConfigWidget]
    CONFIG_WIDGET_SELECT: _ClassVar[ConfigWidget]
    CONFIG_WIDGET_MULTI_SELECT: _ClassVar[ConfigWidget]
    CONFIG_WIDGET_DURATION: _ClassVar[ConfigWidget]
    CONFIG_WIDGET_PASSWORD: _ClassVar[ConfigWidget]

class ValidationRuleType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VALIDATION_RULE_TYPE_UNSPECIFIED: _ClassVar[ValidationRuleType]
    VALIDATION_RULE_TYPE_REGEX: _ClassVar[ValidationRuleType]
    VALIDATION_RULE_TYPE_MIN_LENGTH: _ClassVar[ValidationRuleType]
    VALIDATION_RULE_TYPE_MAX_LENGTH: _ClassVar[ValidationRuleType]
    VALIDATION_RULE_TYPE_MIN_ITEMS: _ClassVar[ValidationRuleType]
    VALIDATION_RULE_TYPE_MAX_ITEMS: _ClassVar[ValidationRuleType]
    VALIDATION_RULE_TYPE_CUSTOM: _ClassVar[ValidationRuleType]

class ActivitySource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTIVITY_SOURCE_UNSPECIFIED: _ClassVar[ActivitySource]
    ACTIVITY_SOURCE_ADMIN: _ClassVar[ActivitySource]
    ACTIVITY_SOURCE_DETECTOR: _ClassVar[ActivitySource]
    ACTIVITY_SOURCE_EXECUTOR: _ClassVar[ActivitySource]
WORK_KIND_UNSPECIFIED: WorkKind
WORK_KIND_DETECTION: WorkKind
WORK_KIND_EXECUTION: WorkKind
JOB_PRIORITY_UNSPECIFIED: JobPriority
JOB_PRIORITY_LOW: JobPriority
JOB_PRIORITY_NORMAL: JobPriority
JOB_PRIORITY_HIGH: JobPriority
JOB_PRIORITY_CRITICAL: JobPriority
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_PENDING: JobState
JOB_STATE_ASSIGNED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELED: JobState
CONFIG_FIELD_TYPE_UNSPECIFIED: ConfigFieldType
CONFIG_FIELD_TYPE_BOOL: ConfigFieldType
CONFIG_FIELD_TYPE_INT64: ConfigFieldType
CONFIG_FIELD_TYPE_DOUBLE: ConfigFieldType
CONFIG_FIELD_TYPE_STRING: ConfigFieldType
CONFIG_FIELD_TYPE_BYTES: ConfigFieldType
CONFIG_FIELD_TYPE_DURATION: ConfigFieldType
CONFIG_FIELD_TYPE_ENUM: ConfigFieldType
CONFIG_FIELD_TYPE_LIST: ConfigFieldType
CONFIG_FIELD_TYPE_OBJECT: ConfigFieldType
CONFIG_WIDGET_UNSPECIFIED: ConfigWidget
CONFIG_WIDGET_TOGGLE: ConfigWidget
CONFIG_WIDGET_TEXT: ConfigWidget
CONFIG_WIDGET_TEXTAREA: ConfigWidget
CONFIG_WIDGET_NUMBER: ConfigWidget
CONFIG_WIDGET_SELECT: ConfigWidget
CONFIG_WIDGET_MULTI_SELECT: ConfigWidget
CONFIG_WIDGET_DURATION: ConfigWidget
CONFIG_WIDGET_PASSWORD: ConfigWidget
VALIDATION_RULE_TYPE_UNSPECIFIED: ValidationRuleType
VALIDATION_RULE_TYPE_REGEX: ValidationRuleType
VALIDATION_RULE_TYPE_MIN_LENGTH: ValidationRuleType
VALIDATION_RULE_TYPE_MAX_LENGTH: ValidationRuleType
VALIDATION_RULE_TYPE_MIN_ITEMS: ValidationRuleType
VALIDATION_RULE_TYPE_MAX_ITEMS: ValidationRuleType
VALIDATION_RULE_TYPE_CUSTOM: ValidationRuleType
ACTIVITY_SOURCE_UNSPECIFIED: ActivitySource
ACTIVITY_SOURCE_ADMIN: ActivitySource
ACTIVITY_SOURCE_DETECTOR: ActivitySource
ACTIVITY_SOURCE_EXECUTOR: ActivitySource

class WorkerToAdminMessage(_message.Message):
    __slots__ = ("worker_id", "sent_at", "hello", "heartbeat", "acknowledge", "config_schema_response", "detection_proposals", "detection_complete", "job_progress_update", "job_completed", "observations", "object_preview_response")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_SCHEMA_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    DETECTION_PROPOSALS_FIELD_NUMBER: _ClassVar[int]
    DETECTION_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    JOB_PROGRESS_UPDATE_FIELD_NUMBER: _ClassVar[int]
    JOB_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    OBJECT_PREVIEW_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    sent_at: _timestamp_pb2.Timestamp
    hello: WorkerHello
    heartbeat: WorkerHeartbeat
    acknowledge: WorkerAcknowledge
    config_schema_response: ConfigSchemaResponse
    detection_proposals: DetectionProposals
    detection_complete: DetectionComplete
    job_progress_update: JobProgressUpdate
    job_completed: JobCompleted
    observations: WorkerObservations
    object_preview_response: ObjectPreviewResponse
    def __init__(self, worker_id: _Optional[str] = ..., sent_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., hello: _Optional[_Union[WorkerHello, _Mapping]] = ..., heartbeat: _Optional[_Union[WorkerHeartbeat, _Mapping]] = ..., acknowledge: _Optional[_Union[WorkerAcknowledge, _Mapping]] = ..., config_schema_response: _Optional[_Union[ConfigSchemaResponse, _Mapping]] = ..., detection_proposals: _Optional[_Union[DetectionProposals, _Mapping]] = ..., detection_complete: _Optional[_Union[DetectionComplete, _Mapping]] = ..., job_progress_update: _Optional[_Union[JobProgressUpdate, _Mapping]] = ..., job_completed: _Optional[_Union[JobCompleted, _Mapping]] = ..., observations: _Optional[_Union[WorkerObservations, _Mapping]] = ..., object_preview_response: _Optional[_Union[ObjectPreviewResponse, _Mapping]] = ...) -> None: ...

class AdminToWorkerMessage(_message.Message):
    __slots__ = ("request_id", "sent_at", "hello", "request_config_schema", "run_detection_request", "execute_job_request", "cancel_request", "shutdown", "request_object_preview")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REQUEST_CONFIG_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    RUN_DETECTION_REQUEST_FIELD_NUMBER: _ClassVar[int]
    EXECUTE_JOB_REQUEST_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUEST_FIELD_NUMBER: _ClassVar[int]
    SHUTDOWN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_OBJECT_PREVIEW_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    sent_at: _timestamp_pb2.Timestamp
    hello: AdminHello
    request_config_schema: RequestConfigSchema
    run_detection_request: RunDetectionRequest
    execute_job_request: ExecuteJobRequest
    cancel_request: CancelRequest
    shutdown: AdminShutdown
    request_object_preview: RequestObjectPreview
    def __init__(self, request_id: _Optional[str] = ..., sent_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., hello: _Optional[_Union[AdminHello, _Mapping]] = ..., request_config_schema: _Optional[_Union[RequestConfigSchema, _Mapping]] = ..., run_detection_request: _Optional[_Union[RunDetectionRequest, _Mapping]] = ..., execute_job_request: _Optional[_Union[ExecuteJobRequest, _Mapping]] = ..., cancel_request: _Optional[_Union[CancelRequest, _Mapping]] = ..., shutdown: _Optional[_Union[AdminShutdown, _Mapping]] = ..., request_object_preview: _Optional[_Union[RequestObjectPreview, _Mapping]] = ...) -> None: ...

class WorkerHello(_message.Message):
    __slots__ = ("worker_id", "worker_instance_id", "address", "worker_version", "protocol_version", "capabilities", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    WORKER_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    worker_instance_id: str
    address: str
    worker_version: str
    protocol_version: str
    capabilities: _containers.RepeatedCompositeFieldContainer[JobTypeCapability]
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, worker_id: _Optional[str] = ..., worker_instance_id: _Optional[str] = ..., address: _Optional[str] = ..., worker_version: _Optional[str] = ..., protocol_version: _Optional[str] = ..., capabilities: _Optional[_Iterable[_Union[JobTypeCapability, _Mapping]]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class AdminHello(_message.Message):
    __slots__ = ("accepted", "message", "heartbeat_interval_seconds", "reconnect_delay_seconds")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_DELAY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    message: str
    heartbeat_interval_seconds: int
    reconnect_delay_seconds: int
    def __init__(self, accepted: _Optional[bool] = ..., message: _Optional[str] = ..., heartbeat_interval_seconds: _Optional[int] = ..., reconnect_delay_seconds: _Optional[int] = ...) -> None: ...

class WorkerHeartbeat(_message.Message):
    __slots__ = ("worker_id", "running_work", "detection_slots_used", "detection_slots_total", "execution_slots_used", "execution_slots_total", "queued_jobs_by_type", "metadata")
    class QueuedJobsByTypeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    RUNNING_WORK_FIELD_NUMBER: _ClassVar[int]
    DETECTION_SLOTS_USED_FIELD_NUMBER: _ClassVar[int]
    DETECTION_SLOTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_SLOTS_USED_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_SLOTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    QUEUED_JOBS_BY_TYPE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    running_work: _containers.RepeatedCompositeFieldContainer[RunningWork]
    detection_slots_used: int
    detection_slots_total: int
    execution_slots_used: int
    execution_slots_total: int
    queued_jobs_by_type: _containers.ScalarMap[str, int]
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, worker_id: _Optional[str] = ..., running_work: _Optional[_Iterable[_Union[RunningWork, _Mapping]]] = ..., detection_slots_used: _Optional[int] = ..., detection_slots_total: _Optional[int] = ..., execution_slots_used: _Optional[int] = ..., execution_slots_total: _Optional[int] = ..., queued_jobs_by_type: _Optional[_Mapping[str, int]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class WorkerAcknowledge(_message.Message):
    __slots__ = ("request_id", "accepted", "message")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    accepted: bool
    message: str
    def __init__(self, request_id: _Optional[str] = ..., accepted: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...

class RunningWork(_message.Message):
    __slots__ = ("work_id", "kind", "job_type", "state", "progress_percent", "stage")
    WORK_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_PERCENT_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    work_id: str
    kind: WorkKind
    job_type: str
    state: JobState
    progress_percent: float
    stage: str
    def __init__(self, work_id: _Optional[str] = ..., kind: _Optional[_Union[WorkKind, str]] = ..., job_type: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., progress_percent: _Optional[float] = ..., stage: _Optional[str] = ...) -> None: ...

class JobTypeCapability(_message.Message):
    __slots__ = ("job_type", "can_detect", "can_execute", "max_detection_concurrency", "max_execution_concurrency", "display_name", "description", "weight")
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    CAN_DETECT_FIELD_NUMBER: _ClassVar[int]
    CAN_EXECUTE_FIELD_NUMBER: _ClassVar[int]
    MAX_DETECTION_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    MAX_EXECUTION_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    job_type: str
    can_detect: bool
    can_execute: bool
    max_detection_concurrency: int
    max_execution_concurrency: int
    display_name: str
    description: str
    weight: int
    def __init__(self, job_type: _Optional[str] = ..., can_detect: _Optional[bool] = ..., can_execute: _Optional[bool] = ..., max_detection_concurrency: _Optional[int] = ..., max_execution_concurrency: _Optional[int] = ..., display_name: _Optional[str] = ..., description: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class RequestConfigSchema(_message.Message):
    __slots__ = ("job_type", "force_refresh")
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    FORCE_REFRESH_FIELD_NUMBER: _ClassVar[int]
    job_type: str
    force_refresh: bool
    def __init__(self, job_type: _Optional[str] = ..., force_refresh: _Optional[bool] = ...) -> None: ...

class ConfigSchemaResponse(_message.Message):
    __slots__ = ("request_id", "job_type", "success", "error_message", "job_type_descriptor")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job_type: str
    success: bool
    error_message: str
    job_type_descriptor: JobTypeDescriptor
    def __init__(self, request_id: _Optional[str] = ..., job_type: _Optional[str] = ..., success: _Optional[bool] = ..., error_message: _Optional[str] = ..., job_type_descriptor: _Optional[_Union[JobTypeDescriptor, _Mapping]] = ...) -> None: ...

class JobTypeDescriptor(_message.Message):
    __slots__ = ("job_type", "display_name", "description", "icon", "descriptor_version", "admin_config_form", "worker_config_form", "admin_runtime_defaults", "worker_default_values")
    class WorkerDefaultValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ICON_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    ADMIN_CONFIG_FORM_FIELD_NUMBER: _ClassVar[int]
    WORKER_CONFIG_FORM_FIELD_NUMBER: _ClassVar[int]
    ADMIN_RUNTIME_DEFAULTS_FIELD_NUMBER: _ClassVar[int]
    WORKER_DEFAULT_VALUES_FIELD_NUMBER: _ClassVar[int]
    job_type: str
    display_name: str
    description: str
    icon: str
    descriptor_version: int
    admin_config_form: ConfigForm
    worker_config_form: ConfigForm
    admin_runtime_defaults: AdminRuntimeDefaults
    worker_default_values: _containers.MessageMap[str, ConfigValue]
    def __init__(self, job_type: _Optional[str] = ..., display_name: _Optional[str] = ..., description: _Optional[str] = ..., icon: _Optional[str] = ..., descriptor_version: _Optional[int] = ..., admin_config_form: _Optional[_Union[ConfigForm, _Mapping]] = ..., worker_config_form: _Optional[_Union[ConfigForm, _Mapping]] = ..., admin_runtime_defaults: _Optional[_Union[AdminRuntimeDefaults, _Mapping]] = ..., worker_default_values: _Optional[_Mapping[str, ConfigValue]] = ...) -> None: ...

class ConfigForm(_message.Message):
    __slots__ = ("form_id", "title", "description", "sections", "default_values")
    class DefaultValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    FORM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SECTIONS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUES_FIELD_NUMBER: _ClassVar[int]
    form_id: str
    title: str
    description: str
    sections: _containers.RepeatedCompositeFieldContainer[ConfigSection]
    default_values: _containers.MessageMap[str, ConfigValue]
    def __init__(self, form_id: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., sections: _Optional[_Iterable[_Union[ConfigSection, _Mapping]]] = ..., default_values: _Optional[_Mapping[str, ConfigValue]] = ...) -> None: ...

class ConfigSection(_message.Message):
    __slots__ = ("section_id", "title", "description", "fields")
    SECTION_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    section_id: str
    title: str
    description: str
    fields: _containers.RepeatedCompositeFieldContainer[ConfigField]
    def __init__(self, section_id: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., fields: _Optional[_Iterable[_Union[ConfigField, _Mapping]]] = ...) -> None: ...

class ConfigField(_message.Message):
    __slots__ = ("name", "label", "description", "help_text", "placeholder", "field_type", "widget", "required", "read_only", "sensitive", "min_value", "max_value", "options", "validation_rules", "visible_when_field", "visible_when_equals")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    HELP_TEXT_FIELD_NUMBER: _ClassVar[int]
    PLACEHOLDER_FIELD_NUMBER: _ClassVar[int]
    FIELD_TYPE_FIELD_NUMBER: _ClassVar[int]
    WIDGET_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    SENSITIVE_FIELD_NUMBER: _ClassVar[int]
    MIN_VALUE_FIELD_NUMBER: _ClassVar[int]
    MAX_VALUE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_RULES_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_WHEN_FIELD_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_WHEN_EQUALS_FIELD_NUMBER: _ClassVar[int]
    name: str
    label: str
    description: str
    help_text: str
    placeholder: str
    field_type: ConfigFieldType
    widget: ConfigWidget
    required: bool
    read_only: bool
    sensitive: bool
    min_value: ConfigValue
    max_value: ConfigValue
    options: _containers.RepeatedCompositeFieldContainer[ConfigOption]
    validation_rules: _containers.RepeatedCompositeFieldContainer[ValidationRule]
    visible_when_field: str
    visible_when_equals: ConfigValue
    def __init__(self, name: _Optional[str] = ..., label: _Optional[str] = ..., description: _Optional[str] = ..., help_text: _Optional[str] = ..., placeholder: _Optional[str] = ..., field_type: _Optional[_Union[ConfigFieldType, str]] = ..., widget: _Optional[_Union[ConfigWidget, str]] = ..., required: _Optional[bool] = ..., read_only: _Optional[bool] = ..., sensitive: _Optional[bool] = ..., min_value: _Optional[_Union[ConfigValue, _Mapping]] = ..., max_value: _Optional[_Union[ConfigValue, _Mapping]] = ..., options: _Optional[_Iterable[_Union[ConfigOption, _Mapping]]] = ..., validation_rules: _Optional[_Iterable[_Union[ValidationRule, _Mapping]]] = ..., visible_when_field: _Optional[str] = ..., visible_when_equals: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...

class ConfigOption(_message.Message):
    __slots__ = ("value", "label", "description", "disabled")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    value: str
    label: str
    description: str
    disabled: bool
    def __init__(self, value: _Optional[str] = ..., label: _Optional[str] = ..., description: _Optional[str] = ..., disabled: _Optional[bool] = ...) -> None: ...

class ValidationRule(_message.Message):
    __slots__ = ("type", "expression", "error_message")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    EXPRESSION_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    type: ValidationRuleType
    expression: str
    error_message: str
    def __init__(self, type: _Optional[_Union[ValidationRuleType, str]] = ..., expression: _Optional[str] = ..., error_message: _Optional[str] = ...) -> None: ...

class ConfigValue(_message.Message):
    __slots__ = ("bool_value", "int64_value", "double_value", "string_value", "bytes_value", "duration_value", "string_list", "int64_list", "double_list", "bool_list", "list_value", "map_value")
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT64_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    BYTES_VALUE_FIELD_NUMBER: _ClassVar[int]
    DURATION_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_LIST_FIELD_NUMBER: _ClassVar[int]
    INT64_LIST_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_LIST_FIELD_NUMBER: _ClassVar[int]
    BOOL_LIST_FIELD_NUMBER: _ClassVar[int]
    LIST_VALUE_FIELD_NUMBER: _ClassVar[int]
    MAP_VALUE_FIELD_NUMBER: _ClassVar[int]
    bool_value: bool
    int64_value: int
    double_value: float
    string_value: str
    bytes_value: bytes
    duration_value: _duration_pb2.Duration
    string_list: StringList
    int64_list: Int64List
    double_list: DoubleList
    bool_list: BoolList
    list_value: ValueList
    map_value: ValueMap
    def __init__(self, bool_value: _Optional[bool] = ..., int64_value: _Optional[int] = ..., double_value: _Optional[float] = ..., string_value: _Optional[str] = ..., bytes_value: _Optional[bytes] = ..., duration_value: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., string_list: _Optional[_Union[StringList, _Mapping]] = ..., int64_list: _Optional[_Union[Int64List, _Mapping]] = ..., double_list: _Optional[_Union[DoubleList, _Mapping]] = ..., bool_list: _Optional[_Union[BoolList, _Mapping]] = ..., list_value: _Optional[_Union[ValueList, _Mapping]] = ..., map_value: _Optional[_Union[ValueMap, _Mapping]] = ...) -> None: ...

class StringList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class Int64List(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, values: _Optional[_Iterable[int]] = ...) -> None: ...

class DoubleList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class BoolList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, values: _Optional[_Iterable[bool]] = ...) -> None: ...

class ValueList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[ConfigValue]
    def __init__(self, values: _Optional[_Iterable[_Union[ConfigValue, _Mapping]]] = ...) -> None: ...

class ValueMap(_message.Message):
    __slots__ = ("fields",)
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    fields: _containers.MessageMap[str, ConfigValue]
    def __init__(self, fields: _Optional[_Mapping[str, ConfigValue]] = ...) -> None: ...

class AdminRuntimeDefaults(_message.Message):
    __slots__ = ("enabled", "detection_interval_minutes", "detection_timeout_seconds", "max_jobs_per_detection", "global_execution_concurrency", "per_worker_execution_concurrency", "retry_limit", "retry_backoff_seconds", "job_type_max_runtime_seconds", "execution_timeout_seconds")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    DETECTION_INTERVAL_MINUTES_FIELD_NUMBER: _ClassVar[int]
    DETECTION_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_JOBS_PER_DETECTION_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_EXECUTION_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    PER_WORKER_EXECUTION_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    RETRY_LIMIT_FIELD_NUMBER: _ClassVar[int]
    RETRY_BACKOFF_SECONDS_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_MAX_RUNTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    detection_interval_minutes: int
    detection_timeout_seconds: int
    max_jobs_per_detection: int
    global_execution_concurrency: int
    per_worker_execution_concurrency: int
    retry_limit: int
    retry_backoff_seconds: int
    job_type_max_runtime_seconds: int
    execution_timeout_seconds: int
    def __init__(self, enabled: _Optional[bool] = ..., detection_interval_minutes: _Optional[int] = ..., detection_timeout_seconds: _Optional[int] = ..., max_jobs_per_detection: _Optional[int] = ..., global_execution_concurrency: _Optional[int] = ..., per_worker_execution_concurrency: _Optional[int] = ..., retry_limit: _Optional[int] = ..., retry_backoff_seconds: _Optional[int] = ..., job_type_max_runtime_seconds: _Optional[int] = ..., execution_timeout_seconds: _Optional[int] = ...) -> None: ...

class AdminRuntimeConfig(_message.Message):
    __slots__ = ("enabled", "detection_interval_minutes", "detection_timeout_seconds", "max_jobs_per_detection", "global_execution_concurrency", "per_worker_execution_concurrency", "retry_limit", "retry_backoff_seconds", "job_type_max_runtime_seconds", "execution_timeout_seconds")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    DETECTION_INTERVAL_MINUTES_FIELD_NUMBER: _ClassVar[int]
    DETECTION_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_JOBS_PER_DETECTION_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_EXECUTION_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    PER_WORKER_EXECUTION_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    RETRY_LIMIT_FIELD_NUMBER: _ClassVar[int]
    RETRY_BACKOFF_SECONDS_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_MAX_RUNTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    detection_interval_minutes: int
    detection_timeout_seconds: int
    max_jobs_per_detection: int
    global_execution_concurrency: int
    per_worker_execution_concurrency: int
    retry_limit: int
    retry_backoff_seconds: int
    job_type_max_runtime_seconds: int
    execution_timeout_seconds: int
    def __init__(self, enabled: _Optional[bool] = ..., detection_interval_minutes: _Optional[int] = ..., detection_timeout_seconds: _Optional[int] = ..., max_jobs_per_detection: _Optional[int] = ..., global_execution_concurrency: _Optional[int] = ..., per_worker_execution_concurrency: _Optional[int] = ..., retry_limit: _Optional[int] = ..., retry_backoff_seconds: _Optional[int] = ..., job_type_max_runtime_seconds: _Optional[int] = ..., execution_timeout_seconds: _Optional[int] = ...) -> None: ...

class RunDetectionRequest(_message.Message):
    __slots__ = ("request_id", "job_type", "detection_sequence", "admin_runtime", "admin_config_values", "worker_config_values", "cluster_context", "last_successful_run", "max_results")
    class AdminConfigValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    class WorkerConfigValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    DETECTION_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ADMIN_RUNTIME_FIELD_NUMBER: _ClassVar[int]
    ADMIN_CONFIG_VALUES_FIELD_NUMBER: _ClassVar[int]
    WORKER_CONFIG_VALUES_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    LAST_SUCCESSFUL_RUN_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job_type: str
    detection_sequence: int
    admin_runtime: AdminRuntimeConfig
    admin_config_values: _containers.MessageMap[str, ConfigValue]
    worker_config_values: _containers.MessageMap[str, ConfigValue]
    cluster_context: ClusterContext
    last_successful_run: _timestamp_pb2.Timestamp
    max_results: int
    def __init__(self, request_id: _Optional[str] = ..., job_type: _Optional[str] = ..., detection_sequence: _Optional[int] = ..., admin_runtime: _Optional[_Union[AdminRuntimeConfig, _Mapping]] = ..., admin_config_values: _Optional[_Mapping[str, ConfigValue]] = ..., worker_config_values: _Optional[_Mapping[str, ConfigValue]] = ..., cluster_context: _Optional[_Union[ClusterContext, _Mapping]] = ..., last_successful_run: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., max_results: _Optional[int] = ...) -> None: ...

class DetectionProposals(_message.Message):
    __slots__ = ("request_id", "job_type", "proposals", "has_more")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    PROPOSALS_FIELD_NUMBER: _ClassVar[int]
    HAS_MORE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job_type: str
    proposals: _containers.RepeatedCompositeFieldContainer[JobProposal]
    has_more: bool
    def __init__(self, request_id: _Optional[str] = ..., job_type: _Optional[str] = ..., proposals: _Optional[_Iterable[_Union[JobProposal, _Mapping]]] = ..., has_more: _Optional[bool] = ...) -> None: ...

class DetectionComplete(_message.Message):
    __slots__ = ("request_id", "job_type", "success", "error_message", "total_proposals")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_PROPOSALS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job_type: str
    success: bool
    error_message: str
    total_proposals: int
    def __init__(self, request_id: _Optional[str] = ..., job_type: _Optional[str] = ..., success: _Optional[bool] = ..., error_message: _Optional[str] = ..., total_proposals: _Optional[int] = ...) -> None: ...

class JobProposal(_message.Message):
    __slots__ = ("proposal_id", "dedupe_key", "job_type", "priority", "summary", "detail", "parameters", "labels", "not_before", "expires_at")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROPOSAL_ID_FIELD_NUMBER: _ClassVar[int]
    DEDUPE_KEY_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    proposal_id: str
    dedupe_key: str
    job_type: str
    priority: JobPriority
    summary: str
    detail: str
    parameters: _containers.MessageMap[str, ConfigValue]
    labels: _containers.ScalarMap[str, str]
    not_before: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, proposal_id: _Optional[str] = ..., dedupe_key: _Optional[str] = ..., job_type: _Optional[str] = ..., priority: _Optional[_Union[JobPriority, str]] = ..., summary: _Optional[str] = ..., detail: _Optional[str] = ..., parameters: _Optional[_Mapping[str, ConfigValue]] = ..., labels: _Optional[_Mapping[str, str]] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExecuteJobRequest(_message.Message):
    __slots__ = ("request_id", "job", "admin_runtime", "admin_config_values", "worker_config_values", "cluster_context", "attempt")
    class AdminConfigValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    class WorkerConfigValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    ADMIN_RUNTIME_FIELD_NUMBER: _ClassVar[int]
    ADMIN_CONFIG_VALUES_FIELD_NUMBER: _ClassVar[int]
    WORKER_CONFIG_VALUES_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job: JobSpec
    admin_runtime: AdminRuntimeConfig
    admin_config_values: _containers.MessageMap[str, ConfigValue]
    worker_config_values: _containers.MessageMap[str, ConfigValue]
    cluster_context: ClusterContext
    attempt: int
    def __init__(self, request_id: _Optional[str] = ..., job: _Optional[_Union[JobSpec, _Mapping]] = ..., admin_runtime: _Optional[_Union[AdminRuntimeConfig, _Mapping]] = ..., admin_config_values: _Optional[_Mapping[str, ConfigValue]] = ..., worker_config_values: _Optional[_Mapping[str, ConfigValue]] = ..., cluster_context: _Optional[_Union[ClusterContext, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("job_id", "job_type", "dedupe_key", "priority", "summary", "detail", "parameters", "labels", "created_at", "scheduled_at")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    DEDUPE_KEY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    SCHEDULED_AT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    job_type: str
    dedupe_key: str
    priority: JobPriority
    summary: str
    detail: str
    parameters: _containers.MessageMap[str, ConfigValue]
    labels: _containers.ScalarMap[str, str]
    created_at: _timestamp_pb2.Timestamp
    scheduled_at: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., job_type: _Optional[str] = ..., dedupe_key: _Optional[str] = ..., priority: _Optional[_Union[JobPriority, str]] = ..., summary: _Optional[str] = ..., detail: _Optional[str] = ..., parameters: _Optional[_Mapping[str, ConfigValue]] = ..., labels: _Optional[_Mapping[str, str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., scheduled_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class JobProgressUpdate(_message.Message):
    __slots__ = ("request_id", "job_id", "job_type", "state", "progress_percent", "stage", "message", "metrics", "activities", "updated_at")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_PERCENT_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    ACTIVITIES_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job_id: str
    job_type: str
    state: JobState
    progress_percent: float
    stage: str
    message: str
    metrics: _containers.MessageMap[str, ConfigValue]
    activities: _containers.RepeatedCompositeFieldContainer[ActivityEvent]
    updated_at: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., job_id: _Optional[str] = ..., job_type: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., progress_percent: _Optional[float] = ..., stage: _Optional[str] = ..., message: _Optional[str] = ..., metrics: _Optional[_Mapping[str, ConfigValue]] = ..., activities: _Optional[_Iterable[_Union[ActivityEvent, _Mapping]]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class JobCompleted(_message.Message):
    __slots__ = ("request_id", "job_id", "job_type", "success", "error_message", "result", "activities", "completed_at")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ACTIVITIES_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    job_id: str
    job_type: str
    success: bool
    error_message: str
    result: JobResult
    activities: _containers.RepeatedCompositeFieldContainer[ActivityEvent]
    completed_at: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., job_id: _Optional[str] = ..., job_type: _Optional[str] = ..., success: _Optional[bool] = ..., error_message: _Optional[str] = ..., result: _Optional[_Union[JobResult, _Mapping]] = ..., activities: _Optional[_Iterable[_Union[ActivityEvent, _Mapping]]] = ..., completed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class JobResult(_message.Message):
    __slots__ = ("output_values", "summary")
    class OutputValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    OUTPUT_VALUES_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    output_values: _containers.MessageMap[str, ConfigValue]
    summary: str
    def __init__(self, output_values: _Optional[_Mapping[str, ConfigValue]] = ..., summary: _Optional[str] = ...) -> None: ...

class ClusterContext(_message.Message):
    __slots__ = ("master_grpc_addresses", "filer_addresses", "volume_grpc_addresses", "metadata", "s3_grpc_addresses")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MASTER_GRPC_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    FILER_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    VOLUME_GRPC_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    S3_GRPC_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    master_grpc_addresses: _containers.RepeatedScalarFieldContainer[str]
    filer_addresses: _containers.RepeatedScalarFieldContainer[str]
    volume_grpc_addresses: _containers.RepeatedScalarFieldContainer[str]
    metadata: _containers.ScalarMap[str, str]
    s3_grpc_addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, master_grpc_addresses: _Optional[_Iterable[str]] = ..., filer_addresses: _Optional[_Iterable[str]] = ..., volume_grpc_addresses: _Optional[_Iterable[str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., s3_grpc_addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class ActivityEvent(_message.Message):
    __slots__ = ("source", "message", "stage", "details", "created_at")
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    source: ActivitySource
    message: str
    stage: str
    details: _containers.MessageMap[str, ConfigValue]
    created_at: _timestamp_pb2.Timestamp
    def __init__(self, source: _Optional[_Union[ActivitySource, str]] = ..., message: _Optional[str] = ..., stage: _Optional[str] = ..., details: _Optional[_Mapping[str, ConfigValue]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("target_id", "target_kind", "reason", "force")
    TARGET_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    target_id: str
    target_kind: WorkKind
    reason: str
    force: bool
    def __init__(self, target_id: _Optional[str] = ..., target_kind: _Optional[_Union[WorkKind, str]] = ..., reason: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class AdminShutdown(_message.Message):
    __slots__ = ("reason", "grace_period_seconds")
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    grace_period_seconds: int
    def __init__(self, reason: _Optional[str] = ..., grace_period_seconds: _Optional[int] = ...) -> None: ...

class PersistedJobTypeConfig(_message.Message):
    __slots__ = ("job_type", "descriptor_version", "admin_config_values", "worker_config_values", "admin_runtime", "updated_at", "updated_by")
    class AdminConfigValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    class WorkerConfigValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    ADMIN_CONFIG_VALUES_FIELD_NUMBER: _ClassVar[int]
    WORKER_CONFIG_VALUES_FIELD_NUMBER: _ClassVar[int]
    ADMIN_RUNTIME_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_BY_FIELD_NUMBER: _ClassVar[int]
    job_type: str
    descriptor_version: int
    admin_config_values: _containers.MessageMap[str, ConfigValue]
    worker_config_values: _containers.MessageMap[str, ConfigValue]
    admin_runtime: AdminRuntimeConfig
    updated_at: _timestamp_pb2.Timestamp
    updated_by: str
    def __init__(self, job_type: _Optional[str] = ..., descriptor_version: _Optional[int] = ..., admin_config_values: _Optional[_Mapping[str, ConfigValue]] = ..., worker_config_values: _Optional[_Mapping[str, ConfigValue]] = ..., admin_runtime: _Optional[_Union[AdminRuntimeConfig, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_by: _Optional[str] = ...) -> None: ...

class WorkerObservations(_message.Message):
    __slots__ = ("job_type", "observations")
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    job_type: str
    observations: _containers.RepeatedCompositeFieldContainer[ObjectObservation]
    def __init__(self, job_type: _Optional[str] = ..., observations: _Optional[_Iterable[_Union[ObjectObservation, _Mapping]]] = ...) -> None: ...

class ObjectObservation(_message.Message):
    __slots__ = ("object_id", "object_kind", "format", "attributes", "observed_at")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: ConfigValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[ConfigValue, _Mapping]] = ...) -> None: ...
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_KIND_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_FIELD_NUMBER: _ClassVar[int]
    object_id: _containers.RepeatedScalarFieldContainer[str]
    object_kind: str
    format: str
    attributes: _containers.MessageMap[str, ConfigValue]
    observed_at: _timestamp_pb2.Timestamp
    def __init__(self, object_id: _Optional[_Iterable[str]] = ..., object_kind: _Optional[str] = ..., format: _Optional[str] = ..., attributes: _Optional[_Mapping[str, ConfigValue]] = ..., observed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RequestObjectPreview(_message.Message):
    __slots__ = ("object_id", "format", "row_limit")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    ROW_LIMIT_FIELD_NUMBER: _ClassVar[int]
    object_id: _containers.RepeatedScalarFieldContainer[str]
    format: str
    row_limit: int
    def __init__(self, object_id: _Optional[_Iterable[str]] = ..., format: _Optional[str] = ..., row_limit: _Optional[int] = ...) -> None: ...

class ObjectPreviewResponse(_message.Message):
    __slots__ = ("request_id", "success", "error_message", "columns", "rows", "total_rows")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_ROWS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    success: bool
    error_message: str
    columns: _containers.RepeatedScalarFieldContainer[str]
    rows: _containers.RepeatedCompositeFieldContainer[PreviewRow]
    total_rows: int
    def __init__(self, request_id: _Optional[str] = ..., success: _Optional[bool] = ..., error_message: _Optional[str] = ..., columns: _Optional[_Iterable[str]] = ..., rows: _Optional[_Iterable[_Union[PreviewRow, _Mapping]]] = ..., total_rows: _Optional[int] = ...) -> None: ...

class PreviewRow(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...
