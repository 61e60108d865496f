"""What signals do to a running server: they stop it cleanly, are ignored, or let it read its files again."""

import signal
import socket
import ssl

import pytest
import trustme
from tests.serving import server_process, until

from online_client import Client, TokenWantedError, WrongTokenError


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda sent: sent.name)
def test_a_signal_stops_it_and_another_spoils_nothing(tmp_path, sent):
    state = tmp_path / "state"
    with server_process("--state", state) as server, Client(server.url) as client:
        client.hit("theo", "/a")
        for number in (sent, signal.SIGTERM, signal.SIGTERM, signal.SIGQUIT):
            server.popen.send_signal(number)
        assert server.end() == 0
    with server_process("--state", state) as server, Client(server.url) as client:
        until(lambda: client.count() == 1)


@pytest.mark.parametrize("sent", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM], ids=lambda sent: sent.name)
def test_other_signals_are_ignored(sent):
    with server_process() as server, Client(server.url) as client:
        server.popen.send_signal(sent)
        client.hit("theo", "/a")
        assert client.count() == 1
        assert server.end() == 0


def log_of(server):
    """The next line of the log that is about SIGHUP."""
    return next(line for line in server.popen.stderr if "SIGHUP" in line)


def test_sighup_reads_the_token_again(tmp_path):
    token = tmp_path / "token"
    token.write_text("the-first-of-the-tokens")
    with server_process("--token-file", token) as server:
        url = "online://:{}@" + server.address
        address = "127.0.0.1", server.port
        with Client(url.format("the-first-of-the-tokens")) as kept, socket.create_connection(address) as idle:
            kept.hit("theo", "/a")
            idle.sendall(b"AUTH the-first-of-the-tokens\r\n")
            assert idle.recv(100) == b"+OK\r\n"
            token.write_text("write the-first-of-the-tokens\nadmin the-second-of-the-tokens")
            server.popen.send_signal(signal.SIGHUP)
            assert "were read again" in log_of(server)
            assert idle.recv(100).startswith(b"-NOAUTH the token of this connection was taken back or changed")
            assert kept.count() == 1  # it has come again, with the role that the token has now
            token.write_text("write the-first-of-the-tokens\nread the-second-of-the-tokens")
            server.popen.send_signal(signal.SIGHUP)
            assert "were read again" in log_of(server)
            assert kept.count() == 1  # its token is as it was, and so it stays
            token.write_text("the-second-of-the-tokens")
            server.popen.send_signal(signal.SIGHUP)
            assert "were read again" in log_of(server)
            with Client(url.format("the-second-of-the-tokens")) as client:
                assert client.count() == 1
            with Client(url.format("the-first-of-the-tokens")) as client, pytest.raises(WrongTokenError):
                client.count()
            token.unlink()
            server.popen.send_signal(signal.SIGHUP)
            assert f"nothing was changed: --token-file {token}" in log_of(server)
            with Client(url.format("the-second-of-the-tokens")) as client:
                assert client.count() == 1


def serial_of(port, authority):
    """The number of the certificate that a server shows."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connected,
    ):
        return connected.getpeercert()["serialNumber"]


def test_sighup_reads_the_certificate_again(tmp_path):
    authority = trustme.CA()
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def issue():
        issued = authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(key)
        issued.cert_chain_pems[0].write_to_path(certificate)

    issue()
    with server_process("--tls-cert", certificate, "--tls-key", key) as server:
        first = serial_of(server.port, authority)
        issue()
        server.popen.send_signal(signal.SIGHUP)
        assert "were read again" in log_of(server)
        second = serial_of(server.port, authority)
        assert first != second
        certificate.write_text("no certificate")
        server.popen.send_signal(signal.SIGHUP)
        assert f"nothing was changed: tls_cert {certificate}" in log_of(server)
        assert serial_of(server.port, authority) == second


def test_sighup_cannot_take_the_token_away(tmp_path):
    token, config = tmp_path / "token", tmp_path / "online.toml"
    token.write_text("the-first-of-the-tokens")
    config.write_text(f'token_file = "{token}"\n')
    with server_process("--config", config) as server:
        config.write_text("")
        server.popen.send_signal(signal.SIGHUP)
        assert "restart the server" in log_of(server)
        with Client(server.url) as client, pytest.raises(TokenWantedError):
            client.count()
