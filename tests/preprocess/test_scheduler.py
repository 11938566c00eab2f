"""A scheduler is spoken to only where nobody else can be: on this machine, by TLS, or where the user says so."""

import json

import pytest

from datapipe.errors import ConfigError, InputError
from datapipe.preprocess.scheduler import Scheduler, is_loopback


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:8786",
        "tcp://127.3.2.1:1",
        "tcp://[::1]:8786",
        "127.0.0.1:8786",
        "tls://10.0.0.1:8786",
        "wss://h:1",
    ],
)
def test_what_is_spoken_to(address):
    """This machine, and whatever is reached by TLS; an address without a scheme is Dask's default, plain."""
    assert Scheduler(address).checked() in (address, f"tcp://{address}")


@pytest.mark.parametrize(
    "address",
    [
        "tcp://10.0.0.1:8786",
        "tcp://0.0.0.0:8786",
        "ws://head:1",
        "192.168.1.2:8786",
        "tcp://no-such-host.invalid:1",
        # Names and forms that look like this machine's, and are not.
        "tcp://127.0.0.1.evil.invalid:1",
        "tcp://[::]:8786",
    ],
)
def test_what_is_refused(address):
    """A plain address elsewhere; the error says each of the three ways out."""
    with pytest.raises(ConfigError, match="neither on this machine") as caught:
        Scheduler(address).checked()
    for way in ("--tls-ca-file", "ssh -L", "--insecure"):
        assert way in caught.value.fix
    assert Scheduler(address, insecure=True).checked().endswith(address)


@pytest.mark.parametrize("address", ["nonsense://127.0.0.1:1", "", "tcp://", "tcp://127.0.0.1:port", "file:///etc/x"])
def test_what_is_no_address(address):
    """It is refused, --insecure or not."""
    with pytest.raises(ConfigError, match="scheduler"):
        Scheduler(address, insecure=True).checked()


@pytest.mark.parametrize("scheme", ["tcp://", "tls://", "foo://", ""])
@pytest.mark.parametrize("user", ["somebody:HUNTER2", "HUNTER2", "127.0.0.1:HUNTER2"])
def test_a_password_is_refused_and_not_repeated(scheme, user):
    """Dask knows none; what somebody typed in front of the host is in no error, nor is it taken for the host."""
    for host in ("127.0.0.1:8786", "10.0.0.1:8786", "[::1"):
        with pytest.raises(ConfigError, match="scheduler") as caught:
            Scheduler(f"{scheme}{user}@{host}", insecure=True).checked()
        assert "HUNTER2" not in f"{caught.value} {caught.value.__context__}"


def test_files_for_tls_and_a_plain_address():
    """Someone who names certificates believes to be safe: the address must use them."""
    with pytest.raises(ConfigError, match="tls_ca_file") as caught:
        Scheduler("tcp://127.0.0.1:1", tls_ca="ca.pem").checked()
    assert caught.value.fix == "tls://127.0.0.1:1"
    with pytest.raises(InputError, match="absent.pem"):
        Scheduler("tls://127.0.0.1:1", tls_ca="absent.pem").check_files()


def test_a_scheduler_file(tmp_path):
    """Dask's own way of telling where the scheduler is; what it names is checked like what is typed."""
    file = tmp_path / "cluster.json"
    with pytest.raises(InputError, match="no scheduler file"):
        Scheduler(str(file)).checked()
    for damaged in ("", "[]", '{"id": 1}', "\x00"):
        file.write_text(damaged)
        with pytest.raises(ConfigError, match="cannot be read"):
            Scheduler(str(file)).checked()
    file.write_text(json.dumps({"type": "Scheduler", "address": "tls://10.1.2.3:8786"}))
    assert Scheduler(str(file)).checked() == "tls://10.1.2.3:8786"
    file.write_text(json.dumps({"address": "tcp://10.1.2.3:8786"}))
    with pytest.raises(ConfigError, match="neither on this machine"):
        Scheduler(str(file)).checked()


def test_loopback():
    """All addresses of a name count."""
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("::ffff:10.0.0.1")
    assert not is_loopback("")
    assert not is_loopback("a" * 300)
