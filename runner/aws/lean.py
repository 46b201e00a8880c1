"""botocore's session, and of botocore only what credentials, signatures and endpoints need.

Importing `botocore.session` imports what clients are made of, with writers of documentation, waiters and paginators.
That is 5 MB, for an agent that makes its daily calls without a client (`runner.aws.direct`). They are loaded with the
first client, also with one that botocore makes itself, to assume a role.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from runner.deferred import defer

# The names that are imported by `botocore.session` and `botocore.regions` as modules, and used by clients only.
ONLY_FOR_CLIENTS = (
    "botocore.client",
    "botocore.handlers",
    "botocore.monitoring",
    "botocore.paginate",
    "botocore.retryhandler",
    "botocore.translate",
    "botocore.waiter",
    "jmespath",
)
# Used by urllib3 to ask for another library's version, and to guess the types of uploaded files; the last one only
# where there is a file of AWS settings.
_HARDLY_USED = ("csv", "zipfile", "mimetypes", "configparser")

defer(*ONLY_FOR_CLIENTS, *_HARDLY_USED)

import botocore.session  # noqa: E402 - what it imports is to find the above
from botocore.loaders import Loader  # noqa: E402 - as above

from runner.aws.bounded import bound  # noqa: E402 - as above
from runner.aws.models import LeanModels  # noqa: E402 - as above


class LeanSession(botocore.session.Session):
    """A session that prepares for clients when the first one is made. For use by several threads."""

    def __init__(self) -> None:
        super().__init__(include_builtin_handlers=False)
        self._preparing = threading.Lock()
        self._prepared = False
        if not os.environ.get("AWS_DATA_PATH"):
            self.register_component("data_loader", Loader(file_loader=LeanModels()))

    def create_client(self, *args: Any, **options: Any) -> Any:
        with self._preparing:
            if not self._prepared:
                self._register_builtin_handlers(self.get_component("event_emitter"))  # type: ignore[attr-defined]
                self._prepared = True
        return bound(super().create_client(*args, **options))
