"""Everything a person repeats: ``nox`` runs the checks, ``nox -s NAME`` one of them, ``nox -l`` lists all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

# Whoever has turned compiled modules off: here thousands of tests and hundreds of processes read the same ones.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

nox.options.default_venv_backend = "venv"
nox.options.sessions = [
    "lint", "types", "architecture", "tests", "processes", "long", "coverage", "docs", "minimum", "wheel",
]  # fmt: skip
nox.options.stop_on_first_error = False

MINIMUM = (
    "aiohttp==3.11.0", "attrs==23.1.0", "tenacity==9.0.0", "xmltodict==0.14.2", "click==8.2.0", "rich==13.7.0",
    "opentelemetry-api==1.31.0", "opentelemetry-sdk==1.31.0", "prometheus-client==0.20.0", "orjson==3.10.0",
    "jinja2==3.1.0", "ziaplot==0.9", "fsspec==2023.9.0",
)  # fmt: skip

AIOHTTP = ("==3.11.0", "==3.11.*", "==3.12.*", "==3.13.*", "==3.14.*", "")
"""The oldest that is allowed, the last of each minor version since, and the newest."""

MEETS_THE_NETWORK = (
    "tests/integration/test_transport.py", "tests/integration/test_connections.py", "tests/integration/test_proxy.py",
    "tests/integration/test_wire_log.py", "tests/unit/test_error_mapping.py",
)  # fmt: skip
WHICH_WAY = (
    "import aiohttp; from altcraft_async.engine.direct import misfit; unknown = misfit(); "
    "print('aiohttp', aiohttp.__version__, 'the direct way' if unknown is None else f'the session, for {unknown}')"
)

PROCESSES = "processes and not chaos and not hostile and not simulate"
LONG = "(long or hypothesis) and not chaos and not hostile and not simulate"

SIDE_BY_SIDE = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal")
"""The tests often wait for servers and processes, so there is one worker more than there are cores."""


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format, and of the prose words, spelling, links and pictures."""
    session.install("ruff==0.17.*", "codespell>=2.4")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "docs/prose.py")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Check types: mypy strictly over the package, mypy and pyright over the typing tests."""
    session.install(
        ".[cli,postgres,test]", "sqlalchemy>=2.0", "mypy>=1.16", "pyright[nodejs]>=1.1.400", "types-xmltodict"
    )
    session.run("mypy")
    session.run("pyright")


@nox.session
def architecture(session: nox.Session) -> None:
    """Check the floors and the absence of import cycles."""
    session.install(".", "import-linter>=2.3", "pytest>=8.2", "pytest-asyncio>=1.0", "pytest-timeout>=2.3")
    session.run("lint-imports")
    session.run("pytest", "tests/unit/test_architecture.py", "-q", "-p", "no:altcraft_async")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after ``--`` go to pytest."""
    session.install(".[test,speed]")
    session.run("pytest", *SIDE_BY_SIDE, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests and measure their branch coverage, which takes twice their time; arguments go to pytest."""
    session.install(".[test,speed]")
    session.run("coverage", "erase")
    # coverage starts before pytest, because pytest loads the package's own plugin
    session.run("coverage", "run", "-m", "pytest", *SIDE_BY_SIDE, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", *([] if session.posargs else ["--fail-under=90"]))


@nox.session
def processes(session: nox.Session) -> None:
    """Run what starts processes, and kills or signals them; arguments go to pytest."""
    session.install(".[test,speed]")
    session.run("pytest", *(session.posargs or ["-m", PROCESSES, *SIDE_BY_SIDE]))


@nox.session
def long(session: nox.Session) -> None:
    """Play and draw whole what the tests show by a sample; arguments go to pytest."""
    session.install(".[test,speed]")
    session.run("pytest", "--hypothesis-profile=whole", *(session.posargs or ["-m", LONG, *SIDE_BY_SIDE]))


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill runs, services and fleets by the hundred; minutes long, so not part of the checks."""
    session.install(".[postgres,test]")
    session.run("pytest", "-m", "chaos", "-s", *session.posargs)


@nox.session
def hostile(session: nox.Session) -> None:
    """Send updates by the ten thousand through a hostile network, and wait out all outages; not part of the checks."""
    session.install(".[test]", "uvloop>=0.20; sys_platform != 'win32'")
    session.run("pytest", "-m", "hostile", *SIDE_BY_SIDE, *session.posargs)


@nox.session
def simulate(session: nox.Session) -> None:
    """Live through 10,000 seeds, an outage in a million lines, many more answers and inputs; not part of the checks."""
    session.install(".[test]", "uvloop>=0.20; sys_platform != 'win32'")
    session.run("pytest", "-m", "simulate", "-s", *session.posargs)


BALANCERS = {"nginx": "nginx-light", "haproxy": "haproxy"}
"""The programs, and Debian's packages of them."""


CHROMIUM = {"chromium": "chromium", "chromedriver": "chromium-driver"}
"""The programs, and Debian's packages of them."""


@nox.session
def balancers(session: nox.Session) -> None:
    """Run the engine through nginx and HAProxy, which a root on Debian gets installed; arguments go to pytest."""
    session.install(".[test]")
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    missing = [package for program, package in BALANCERS.items() if not shutil.which(program, path=search)]
    if missing and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        # without a network the tests are skipped, and say why
        anyhow = list(range(256))
        session.run("apt-get", "update", external=True, silent=True, success_codes=anyhow)
        install = ("apt-get", "install", "-y", "--no-install-recommends", *missing)
        session.run(*install, external=True, silent=True, success_codes=anyhow)
    chosen = session.posargs or ["-m", "balancers or slow"]
    session.run("pytest", "tests/integration/test_balancers.py", "-s", *chosen)


@nox.session
def postgres(session: nox.Session) -> None:
    """Run what needs PostgreSQL, on a cluster of its own, installed for a root on Debian; arguments go to pytest."""
    session.install(".[postgres,test]", "asyncpg>=0.29", "psycopg-pool>=3.2", "sqlalchemy[asyncio]>=2.0")
    there = any(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or shutil.which("postgres")
    if not there and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        # without a network the tests are skipped, and say why
        anyhow = list(range(256))
        session.run("apt-get", "update", external=True, silent=True, success_codes=anyhow)
        install = ("apt-get", "install", "-y", "--no-install-recommends", "postgresql", "pgbouncer")
        session.run(*install, external=True, silent=True, success_codes=anyhow)
    session.run("pytest", *(session.posargs or ["-m", "postgres and not chaos", *SIDE_BY_SIDE]))


@nox.session
def browser(session: nox.Session) -> None:
    """Test our pages and the built documents in a headless Chromium, which a root on Debian gets, or make pictures."""
    session.install(".[test]", "selenium>=4.20", "axe-core-python>=0.1", "pillow>=10")
    if (
        not all(map(shutil.which, CHROMIUM))
        and hasattr(os, "geteuid")
        and os.geteuid() == 0
        and shutil.which("apt-get")
    ):
        # without a network the tests are skipped, and say why
        anyhow = list(range(256))
        session.run("apt-get", "update", external=True, silent=True, success_codes=anyhow)
        install = ("apt-get", "install", "-y", "--no-install-recommends", *CHROMIUM.values(), "fonts-dejavu-core")
        session.run(*install, external=True, silent=True, success_codes=anyhow)
    if session.posargs == ["screenshots"]:
        session.run("python", "docs/sandbox_screenshots.py")
        session.run("python", "docs/report_screenshots.py")
    else:
        session.run("pytest", "tests/browser", *(session.posargs or ["-q"]))


@nox.session
def outages(session: nox.Session) -> None:
    """Play outages of every kind, against their targets; a quarter of an hour, so not part of the checks."""
    session.install(".", "trustme>=1.1")
    session.run("python", "benchmarks/outage.py", "--check", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documents, run their examples, and check each block of the pages; warnings are errors."""
    used = ("asyncpg>=0.29", "httpx>=0.28", "psycopg-pool>=3.2", "sqlalchemy[asyncio]>=2.0")
    session.install(".[docs,postgres,test]", "mypy>=1.16", *used)
    session.run("python", "docs/fill_tables.py", "--check")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "doctest", "docs", "docs/_build/doctest")
    shutil.rmtree("docs/_build/html", ignore_errors=True)  # no block of a page that is gone
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")
    session.run("pytest", "-q", "-m", "documents", "tests/documents", *SIDE_BY_SIDE)


@nox.session
def programs(session: nox.Session) -> None:
    """Run the documents' programs with the libraries that they are for; not part of the checks."""
    session.install(".[arrow,test]", "celery>=5.4", "django>=5.0", "pandas>=2.2", "polars>=1.0")
    session.run("pytest", "tests/acceptance/test_programs.py", "-rs", *session.posargs)


@nox.session
def engines(session: nox.Session) -> None:
    """Deliver shards with Dask, Ray, Spark and in S3, and kill workers; minutes long, so not part of the checks.

    Spark needs Java (Debian: ``apt-get install default-jre-headless``). What cannot be had is skipped, with a reason.
    """
    session.install(".[test]", "distributed>=2024.8", "pyyaml>=6.0", "s3fs>=2024.6", "moto[server]>=5.0")
    for engine in ("ray>=2.30", "pyspark[sql]>=4.0"):
        session.run("python", "-m", "pip", "install", "--quiet", engine, success_codes=[0, 1])
    session.run("pytest", "-m", "engines", "tests/engines", "-rs", *session.posargs)


@nox.session
def minimum(session: nox.Session) -> None:
    """Run the tests with the oldest dependencies that are allowed."""
    session.install(".[test]", *MINIMUM)
    session.run("pytest", "-q", *SIDE_BY_SIDE, *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Make all that is published in ``dist/``: sdist, wheel, the documents, and what the library stands on."""
    session.install(".[docs]", "build", "twine", "cyclonedx-bom")
    target = Path("dist")
    shutil.rmtree(target, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(target), ".")
    session.run("twine", "check", "--strict", *map(str, sorted(target.glob("altcraft_async-*"))))
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", str(target / "docs"))
    session.run("python", "-m", "venv", "--clear", str(target / "bare"), silent=True)
    bare = str(target / "bare" / "bin" / "python")
    session.run(bare, "-m", "pip", "install", "--quiet", str(next(target.glob("*.whl"))), external=True)
    session.run("cyclonedx-py", "environment", bare, "--output-file", str(target / "sbom.cdx.json"))
    shutil.rmtree(target / "bare")


@nox.session(python=["3.12", "3.13", "3.14"])
def pythons(session: nox.Session) -> None:
    """Run the tests on the other interpreters that are supported, as far as they are there."""
    session.install(".[test]")
    session.run("pytest", "-q", *SIDE_BY_SIDE, *session.posargs)


@nox.session(name="aiohttp")
@nox.parametrize("version", AIOHTTP)
def aiohttp_versions(session: nox.Session, version: str) -> None:
    """Run what meets the network with an aiohttp of each minor version, and say which way calls take through it."""
    session.install(".[test]", "uvloop>=0.20; sys_platform != 'win32'", f"aiohttp{version}")
    session.run("python", "-c", WHICH_WAY)
    session.run("pytest", "-q", *SIDE_BY_SIDE, *(session.posargs or MEETS_THE_NETWORK))


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it alone, and run the main job with it."""
    session.install("build")
    target = Path(session.create_tmp())
    for old in target.glob("*.whl"):
        old.unlink()
    session.run("python", "-m", "build", "--wheel", "--outdir", str(target), ".")
    built = next(target.glob("*.whl")).resolve()
    session.run("python", "-m", "pip", "install", "--force-reinstall", str(built), silent=True)
    session.chdir(target)
    # without the extra: the library imports, and the command names what is missing
    session.run("python", "-c", "import altcraft_async; print(altcraft_async.AltcraftClient)")
    session.run("altcraft-async", "--help", success_codes=[1])
    page = "files('altcraft_async.sandbox').joinpath('page', name).read_text('utf-8')"
    names = "('index.html', 'page.css', 'page.js', 'icon.svg')"
    report = "files('altcraft_async.report').joinpath(name).read_text('utf-8')"
    parts = "('page.html', 'page.css')"
    session.run("python", "-c", f"from importlib.resources import files; assert all({report} for name in {parts})")
    session.run("python", "-c", f"from importlib.resources import files; assert all({page} for name in {names})")
    session.run("python", "-m", "pip", "install", f"{built}[cli]", silent=True)
    session.run("altcraft-async", "demo", "--lines", "2000")
    for path in ("man/man1/altcraft-async.1", "bash-completion/completions/altcraft-async"):
        session.run("python", "-c", f"import sys, pathlib; assert pathlib.Path(sys.prefix, 'share/{path}').is_file()")


@nox.session
def soak(session: nox.Session) -> None:
    """Let 500 handlers share a client for minutes, and look for what grows; not part of the checks."""
    session.install(".")
    session.run("python", "benchmarks/soak.py", "--check", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure cost per update, memory and import time; not part of the checks, for it wants a quiet machine."""
    session.install(
        ".[opentelemetry,prometheus]", "opentelemetry-sdk", "uvloop>=0.20", "aiohttp-retry>=2.9", "httpx>=0.28"
    )
    for script in ("cost_per_update.py", "memory.py", "import_time.py"):
        session.run("python", f"benchmarks/{script}", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Change one token of the pure rooms at a time, and see who notices; minutes long, so not part of the checks."""
    session.install(".[test,speed]", "aiohttp-retry>=2.9")
    session.run("python", "benchmarks/mutants.py", "--check", *session.posargs)
