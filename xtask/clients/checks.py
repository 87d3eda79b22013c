"""What the scripts of this folder share: where the server is, and a line for each check.

In: the environment that `cargo xtask clients` sets. Out: `ok` and `FAILED` lines; the first failure
ends a script with exit code 1.
"""

import json
import os
import sys
import urllib.error
import urllib.request

URL = os.environ["STERNA_URL"]
# A server that does one request at a time, lets one wait, and has the same key.
BUSY_URL = os.environ["STERNA_BUSY_URL"]
KEY = os.environ["STERNA_KEY"]
MODEL = os.environ["STERNA_MODEL"]


def check(name, is_so, shown=""):
    """A line for what must hold."""
    if not is_so:
        print(f"FAILED {name}: {shown!r}", flush=True)
        sys.exit(1)
    print(f"ok     {name}", flush=True)


def raises(name, kind, ask, status):
    """The client must turn this request's answer into an exception of this class."""
    try:
        answer = ask()
    except kind as error:
        found = getattr(error, "status_code", status)
        check(name, found == status, f"status {found}, not {status}: {error}")
    except Exception as error:  # whatever else it is, it is not the right one
        check(name, False, f"{type(error).__name__} instead of {kind.__name__}: {error}")
    else:
        check(name, False, answer)


def ask(path, body=None, url=URL):
    """A request by hand: the status, and the JSON of the answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def numbers(url=URL):
    """Counters of the model."""
    return ask("/api/v1/stats", url=url)[1]["models"][0]["stats"]
