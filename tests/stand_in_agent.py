"""An agent that stands in for the real one where what happens around it matters: it builds a file and checks it.

The environment variable STAND_IN says what goes wrong: `build`, `check`, `hang` or `die`.
"""

from __future__ import annotations

import io
import zipfile

SOURCE = """
import json, os, sys, time
verb, arguments = sys.argv[1], sys.argv[2:]
cache = arguments[arguments.index("--cache") + 1]
asked = os.environ.get("STAND_IN", "")
def end(code, **told):
    print(json.dumps({"schema": 1, **told}))
    sys.exit(code)
if verb == "build":
    if asked == "hang":
        time.sleep(600)
    if asked == "die":
        sys.stderr.write("out of memory\\n")
        os.kill(os.getpid(), 9)
    if asked == "build":
        end(4, wrong="TensorRT 8.2 is too old for the graph", wanted="8.5 or newer", do="update JetPack")
    with open(os.path.join(cache, "model.engine"), "w") as engine:
        engine.write("built")
    end(0, engine="model.engine")
if verb == "check":
    if asked == "check":
        end(5, wrong="the golden sample fails: of 3 boxes 1 is missing", wanted="every box", do="build again")
    end(0 if os.path.exists(os.path.join(cache, "model.engine")) else 4, boxes=3)
if verb == "bench":
    end(0, samples_s=[0.01, 0.02])
"""


def stand_in_agent() -> bytes:
    """Return the bytes of an agent.pyz; the same each time."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), SOURCE)
    return packed.getvalue()
