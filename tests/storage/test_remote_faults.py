"""What an error of a remote file system means, told without one."""

from __future__ import annotations

from datapipe.errors import ConfigError, StorageError
from datapipe.storage.remote_faults import is_transient, remote_fault


def test_an_option_that_the_file_system_does_not_take_is_a_mistake_in_the_options():
    """Clients are made at the first request: their complaint comes while something is looked for."""
    error = TypeError("AioSession.__init__() got an unexpected keyword argument 'endpint'")
    fault = remote_fault(error, "looking for s3://b/manifest.json", str(error))
    assert isinstance(fault, ConfigError)
    assert "endpint" in str(fault)
    assert "storage_options" in str(fault)
    assert not is_transient(error)


def test_another_type_error_is_no_matter_of_options():
    fault = remote_fault(TypeError("unhashable"), "reading s3://b/a", "unhashable")
    assert isinstance(fault, StorageError)
