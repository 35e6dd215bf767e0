"""The only importer of ultralytics, and so the only room whose import changes the process.

Importing this package sets YOLO_AUTOINSTALL=false (nothing installs anything at run time), YOLO_OFFLINE=true
(nothing is downloaded) and OMP_NUM_THREADS to the cores this process may use, since ultralytics sets it to 1
where it is unset, which leaves torch one thread.
"""

from __future__ import annotations

import os

from slimdeploy._cores import usable_cores

os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_OFFLINE"] = "true"
os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
