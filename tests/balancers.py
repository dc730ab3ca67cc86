"""nginx and HAProxy in front of a server: real ones, in the foreground, on loopback, as the current user.

.. code-block:: python

    with Nginx(tmp_path, backend=server.port, keep_alive=1) as balancer:
        AltcraftClient(balancer.base_url, server.token)
        balancer.reload()
"""

from __future__ import annotations

import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BALANCERS", "Balancer", "Haproxy", "Nginx"]

_SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
"""Debian keeps servers where the path of a plain user does not lead."""


def _free_port() -> int:
    """Find a port that no outgoing connection of the machine can happen to have."""
    while True:
        port = random.randrange(18_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


class Balancer:
    """What both have in common: a configuration in a directory, a process, a reload by signal."""

    program: ClassVar[str]
    reload_signal: ClassVar[signal.Signals]

    def __init__(self, directory: Path, *, backend: int, keep_alive: float = 60.0, limits: str = "") -> None:
        """Stand before port `backend`; keep idle connections so long; `limits` names a set of `LIMITS`."""
        self.port = _free_port()
        self._config = directory / f"{self.program}.conf"
        self._log = directory / f"{self.program}.log"
        self._config.write_text(self._written(directory, backend, keep_alive, limits))

    @classmethod
    def path(cls) -> str | None:
        """Return where the program is, None where it is not installed."""
        return shutil.which(cls.program, path=_SEARCH)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        program = self.path()
        assert program is not None
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command(program), stdout=log, stderr=log, start_new_session=True)
        give_up = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return self
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < give_up, self._log.read_text()
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def reload(self) -> None:
        """Read the configuration again: new processes take over, the old ones finish."""
        self._process.send_signal(self.reload_signal)

    def _written(self, directory: Path, backend: int, keep_alive: float, limits: str) -> str:
        raise NotImplementedError

    def _command(self, program: str) -> list[str]:
        raise NotImplementedError


class Nginx(Balancer):
    """nginx with kept connections on both sides."""

    program = "nginx"
    reload_signal = signal.SIGHUP
    LIMITS: ClassVar = {
        "": ("", ""),
        "connections, 503": ("limit_conn_zone $server_addr zone=c:1m;", "limit_conn c 10; limit_conn_status 503;"),
        "rate, 429": (
            "limit_req_zone $server_addr zone=r:1m rate=400r/s;",
            "limit_req zone=r burst=20 nodelay; limit_req_status 429;",
        ),
        "rate, 503": ("limit_req_zone $server_addr zone=r:1m rate=400r/s;", "limit_req zone=r burst=20 nodelay;"),
    }

    def _command(self, program: str) -> list[str]:
        return [program, "-p", str(self._config.parent), "-c", str(self._config), "-e", "stderr"]

    def _written(self, directory: Path, backend: int, keep_alive: float, limits: str) -> str:
        zone, limit = self.LIMITS[limits]
        user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
        kept = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = " ".join(f"{name}_temp_path {directory}/{name};" for name in kept)
        return f"""
            daemon off; {user} pid {directory}/nginx.pid; error_log stderr error; worker_processes 1;
            events {{ worker_connections 1024; }}
            http {{
                access_log off; {places} {zone}
                keepalive_timeout {keep_alive:g}s; keepalive_requests 1000;
                upstream platform {{ server 127.0.0.1:{backend}; keepalive 64; }}
                server {{
                    listen 127.0.0.1:{self.port};
                    location / {{
                        {limit}
                        proxy_pass http://platform; proxy_http_version 1.1; proxy_set_header Connection "";
                    }}
                }}
            }}
        """


class Haproxy(Balancer):
    """HAProxy with a master process, so that it can be reloaded."""

    program = "haproxy"
    reload_signal = signal.SIGUSR2
    LIMITS: ClassVar = {
        "": ("", ""),
        "connections, 503": ("", "maxconn 10"),
        "rate, 429": (
            """    stick-table type ip size 1k expire 10s store http_req_rate(1s)
    http-request track-sc0 src
    http-request deny deny_status 429 if { sc_http_req_rate(0) gt 400 }
""",
            "",
        ),
    }

    def _command(self, program: str) -> list[str]:
        return [program, "-W", "-f", str(self._config)]

    def _written(self, directory: Path, backend: int, keep_alive: float, limits: str) -> str:
        rules, limit = self.LIMITS[limits]
        # with a limit of connections a call that waits longer than 100 ms for one is answered 503
        return (
            "global\n    maxconn 1000\n    hard-stop-after 5s\n"
            "defaults\n    mode http\n    timeout connect 1s\n    timeout client 30s\n    timeout server 30s\n"
            f"    timeout queue 100ms\n    timeout http-keep-alive {keep_alive * 1000:.0f}ms\n"
            f"frontend in\n    bind 127.0.0.1:{self.port}\n{rules}    default_backend platform\n"
            f"backend platform\n    retries 0\n    server one 127.0.0.1:{backend} {limit}\n"
        )


BALANCERS: tuple[type[Balancer], ...] = (Nginx, Haproxy)
