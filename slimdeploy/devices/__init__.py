"""Boards, reached through the system's own ssh; or this machine, as if it were one."""
