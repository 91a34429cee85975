"""Several threads and several interpreters in one process."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import textwrap

import comfy_auth_rs
import pytest

#: Each test starts processes.
pytestmark = pytest.mark.slow

#: Runs code in an interpreter that shares this GIL, or in one with its own. Python has renamed the module.
INTERPRETERS = '''
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def create(own_gil):
    if sys.version_info >= (3, 13):
        return interpreters.create("isolated" if own_gil else "legacy")
    if sys.version_info >= (3, 12):
        return interpreters.create(isolated=own_gil)
    return interpreters.create()

USE = """
try:
    import comfy_auth_rs
    comfy_auth_rs.create_auth_middleware(api_key="x" * 40)
    print("in use")
except ImportError as error:
    print("ImportError:", error)
"""

def use_in_another(own_gil=False):
    interpreters.run_string(create(own_gil), USE)
'''

IN_USE = (
    "ImportError: comfy_auth_rs is in use in another interpreter of this process, and works in one only; "
    "start the server in a process of its own"
)


def run(code: str) -> list[str]:
    """Runs code in a new process and returns the lines it prints."""
    command = [sys.executable, "-c", INTERPRETERS + textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


def test_the_first_interpreter_of_a_process_uses_it() -> None:
    assert run("exec(USE); use_in_another(); use_in_another(); exec(USE)") == ["in use", IN_USE, IN_USE, "in use"]


def test_a_sub_interpreter_may_be_the_first() -> None:
    assert run("use_in_another(); exec(USE); use_in_another()") == ["in use", IN_USE, IN_USE]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="until Python 3.12 all interpreters share one GIL")
def test_an_interpreter_with_a_gil_of_its_own_is_refused_by_python() -> None:
    (line,) = run("use_in_another(own_gil=True)")
    assert line == "ImportError: module comfy_auth_rs._core does not support loading in subinterpreters"


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")
def test_a_python_without_gil_keeps_it_off() -> None:
    assert comfy_auth_rs.__version__
    assert not sys._is_gil_enabled()


def test_threads_do_not_wait_for_each_other_for_ever() -> None:
    """Several event loops, one middleware, and a transport that lets others run while it says whether it is open."""
    assert run("""
        import asyncio, logging, time
        import comfy_auth_rs
        from aiohttp.test_utils import make_mocked_request

        logging.disable()
        OWNER, OTHER = "k" * 40, "o" * 40
        middleware = comfy_auth_rs.create_auth_middleware(api_key=(OWNER, OTHER))
        asked = 0

        class Transport:
            def is_closing(self):
                global asked
                asked += 1
                time.sleep(0.001)
                return False
            def get_extra_info(self, name, default=None):
                return default

        def open_socket(key, client_id, handler):
            headers = {"Upgrade": "websocket", "X-API-Key": key}
            request = make_mocked_request("GET", f"/ws?clientId={client_id}", headers, transport=Transport())
            return middleware(request, handler)

        async def admit(request):
            return "admitted"

        async def stay(request):
            await asyncio.Future()

        def open_sockets(first):
            for number in range(first, first + 100):
                assert asyncio.run(open_socket(OTHER, number, admit)) == "admitted"
                assert asyncio.run(open_socket(OTHER, "owned", admit)).status == 401

        async def main():
            socket = asyncio.ensure_future(open_socket(OWNER, "owned", stay))
            await asyncio.sleep(0)
            await asyncio.gather(*(asyncio.to_thread(open_sockets, first) for first in range(0, 400, 100)))
            print(asked >= 400)

        asyncio.run(main())
    """) == ["True"]
