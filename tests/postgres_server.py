"""A PostgreSQL server of the tests' own: a fresh cluster on a socket in a temporary directory, never the system's."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import quote

USER = "altcraft"


def programs() -> Path | None:
    """Find the directory with the newest server's programs, as Debian's package has them, or on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


class PostgresServer:
    """Runs while it is used with ``with``; `fsync` makes it as slow as in earnest, `standby_of` a copy that follows.

    PostgreSQL refuses to run as root: then it runs as the user ``postgres``, or ``nobody``.
    """

    def __init__(self, *, fsync: bool = False, standby_of: Self | None = None, **settings: str) -> None:
        self._primary = standby_of
        found = programs()
        assert found is not None, "PostgreSQL is not installed: nox -s postgres installs it"
        self._programs = found
        self._settings = {
            "unix_socket_directories": "", "listen_addresses": "", "max_connections": "200",
            "fsync": "on" if fsync else "off", **settings,
        }  # fmt: skip
        self._as: dict[str, object] = {}

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="altcraft-pg-", dir="/tmp"))
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        if self._primary is None:
            self._run("initdb", "-D", str(self.data), "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8")
        else:
            from_it = ("-h", str(self._primary.directory), "-U", USER, "-c", "fast", "-R")
            self._run("pg_basebackup", "-D", str(self.data), *from_it)
        settings = self._settings | {"unix_socket_directories": str(self.directory)}
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@{quote(str(self.directory), safe='')}/{database}"

    def sqlalchemy_url(self, driver: str, database: str = "postgres") -> str:
        return f"postgresql+{driver}://{USER}@/{database}?host={self.directory}"

    def start(self) -> None:
        self._control("-w", "-l", str(self.directory / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``fast`` ends all sessions in order, ``immediate`` is like a crash."""
        self._control("-w", "-m", mode, "stop", check=False)

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def promote(self) -> None:
        """Make a standby the primary."""
        self._control("-w", "promote")

    def _control(self, *arguments: str, check: bool = True) -> None:
        self._run("pg_ctl", "-D", str(self.data), *arguments, check=check)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        # not captured: the server inherits the output, and would keep a pipe open
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=check,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", "")},
            timeout=60,
            **self._as,  # type: ignore[call-overload]
        )
