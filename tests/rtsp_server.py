"""Serve a red picture as H.264 by RTSP on a loopback port; run by a Python that has GStreamer, which ours lacks.

Usage: python3 rtsp_server.py PORT; it says "ready", and serves rtsp://127.0.0.1:PORT/scene until it is killed.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PICTURE = "videotestsrc is-live=true pattern=red ! video/x-raw,format=I420,width=192,height=128,framerate=25/1"
CODED = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay name=pay0 pt=96 config-interval=1"


def main() -> None:
    """Serve until killed."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {PICTURE} ! {CODED} )")
    factory.set_shared(True)
    server.get_mount_points().add_factory("/scene", factory)
    server.attach(None)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
