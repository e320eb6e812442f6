"""Kinds of places for uploads that both sides have: one file each, all of them in two dicts."""

from backups.disaster.base import Uploads
from backups.disaster.uploads import folder, s3
from backups.disaster.uploads.mending import Open

UPLOADS: dict[str, Uploads] = {one.kind: one for one in (s3.S3Uploads(), folder.FolderUploads())}
# How to go through both sides without changing anything.
ENDS: dict[str, Open] = {"s3": s3.ends, "folder": folder.ends}
