"""An agent that is the real one but for `build`, `check` and `bench`, for tests of what happens around these.

The environment variable STAND_IN says what goes wrong: `build`, `check`, `bench`, `hang` or `die`.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from slimdeploy.bundle.agent import write_agent

SOURCE = """
import json, os, sys, time
verb, arguments = sys.argv[1], sys.argv[2:]
if verb not in ("build", "check", "bench"):
    from slimdeploy.board.agent import main
    sys.exit(main())
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
if verb == "bench":
    samples = int(arguments[arguments.index("--samples") + 1])
    measurement = dict(artifact="m", sha256="0" * 64, backend="onnxruntime", scope="inference", threads=1, batch=1,
                       samples_s=[0.01] * samples, load_s=0.1, first_s=0.02, warmup_s=[0.01], rounds=[samples],
                       peak_memory_mib=None, environment={"board": {}}, warnings=["a simulated board"])
    if asked == "bench":
        del measurement["samples_s"]
    end(0, simulated=True, measurement=measurement, telemetry={"mean_power_mw": 5000})
if asked == "check":
    end(5, wrong="the golden sample fails: of 3 boxes 1 is missing", wanted="every box", do="build again")
end(0 if os.path.exists(os.path.join(cache, "model.engine")) else 4, boxes=3)
"""


@cache
def stand_in_agent() -> bytes:
    """Return the bytes of an agent.pyz; the same each time."""
    with tempfile.TemporaryDirectory() as folder:
        write_agent(Path(folder) / "agent.pyz")
        with zipfile.ZipFile(Path(folder) / "agent.pyz") as real:
            files = {name: real.read(name) for name in real.namelist()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in {**files, "__main__.py": SOURCE.encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return packed.getvalue()
