"""Limits of the client: numbers only. They are those of the contract in sdk/README.md."""

from __future__ import annotations

from typing import Final

CONNECT_TIMEOUT: Final = 1.5
"""Seconds that connecting to one server may take before the next is tried."""

RETRY_PAUSE_FIRST: Final = 0.05
"""Seconds before the second round over all servers; doubled up to `RETRY_PAUSE_MAX`."""

RETRY_PAUSE_MAX: Final = 1.0
"""Longest pause in seconds between two rounds, unless a server asks for a longer one."""

RETRY_PAUSE_ASKED_MAX: Final = 10.0
"""Longest pause in seconds that a server can ask for."""

CALL_TIMEOUT_DEFAULT: Final = 15.0
"""Seconds that a call may take with all its attempts, unless the caller says otherwise."""

TIMEOUT_MAX: Final = 1e8
"""Seconds beyond which a time limit is as good as none, and no clock that is used here overflows yet: three years."""

ATTEMPT_TIMEOUT: Final = 6.0
"""Seconds that one attempt may take where there are other servers to ask, unless it must not be repeated."""

CREATE_REPEAT_MAX: Final = 300.0
"""Seconds after its first attempt at which a create is not repeated any more: servers forget its request id later."""

NAMES_MAX: Final = 8
"""Names that are tried where the servers make one that turns out to be taken."""

STREAM_HEALTHY_AFTER: Final = 1.0
"""Seconds after which a stream that brought nothing counts as having worked, so that its end begins a new count."""

KEEP_ALIVE_INTERVAL: Final = 5.0
"""Seconds between HTTP/2 pings, so that a server that vanished silently is noticed."""

KEEP_ALIVE_TIMEOUT: Final = 5.0
"""Seconds that a ping may be unanswered."""

STREAMS_PER_CONNECTION_MAX: Final = 512
"""Watches and logs on one connection; beyond there is another one. Servers take 1,024 calls of one at once, and where
there is no more room no call of the client is sent."""

PAGE_SIZE: Final = 500
"""Objects asked for per page of a list."""

LIST_RESTARTS_MAX: Final = 3
"""How often a list begins anew because its pages expired."""

LINE_BYTES_MAX: Final = 1 << 20
"""Bytes of a line of a log that has not ended yet, past which it is given in pieces."""

ADDRESSES_MAX: Final = 64
"""Servers that a client may be given, and further ones that it may be told of by servers."""

MESSAGE_BYTES_MAX: Final = 4 << 20
"""Largest message that servers take or send."""

TOKEN_BYTES_MAX: Final = 4096
"""Longest token that servers take."""

REQUEST_ID_BYTES_MAX: Final = 128
"""Longest request id that servers take."""
