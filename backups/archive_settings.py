"""What a server's postgresql.conf needs for going back to any moment: for our receiver, or for archive_command.

The guide's archive_command ('aws s3 cp %p s3://pitchey-backups/wal/%f') overwrites what is there without a word, and
starts a process for each segment. The one that is printed here never overwrites, and succeeds only when the file is
safely in the storage, where our restores find it.
"""

from shlex import quote

from backups.models import Policy
from backups.programs import Server
from backups.wal import slot_of
from backups.wal_segments import FOLDER

SCRIPT_PATH = "/usr/local/bin/archive-wal"

RECEIVER = """\
# --- The way of this control plane: manage.py wal_receiver, with seconds to lose --------------------------
# postgresql.conf (a restart is needed where a value changes, but for summarize_wal)
wal_level = replica
max_wal_senders = 10        # one for the receiver, one for each base backup, and those of your standbys
max_replication_slots = 10  # one is {slot}, made by the receiver
summarize_wal = on          # PostgreSQL 17 and later: incremental backups

# pg_hba.conf
host  replication  {user}  {address}  scram-sha-256
host  {database}  {user}  {address}  scram-sha-256

# in SQL
#   ALTER ROLE "{user}" REPLICATION;

# While the receiver is away, the server keeps all WAL for it. To let the server rather lose the archive (a gap, which
# is found and told) than run out of disk:
#   max_slot_wal_keep_size = '50GB'
"""

COMMAND = """\
# --- The other way: archive_command ------------------------------------------------------------------------
# One process for each segment, and up to archive_timeout to lose. It needs base backups all the same; moments of
# this way are not on the page, but a restore by hand finds the files (docs).
# postgresql.conf
wal_level = replica
archive_mode = on
archive_timeout = 60
archive_command = '{path} "%p" "%f"'

# {path}, mode 0755, on the database server:
"""

HEAD = """\
#!/bin/sh
# Puts a WAL file ($1: its path, $2: its name) into the archive. It succeeds only when the file is safely there, and
# never replaces another one: a file that is there with the same content is a success, with another one a failure.
set -eu
case $2 in
    *.history) name=$2.zst ;;
    *) name=$(printf %.8s "$2")/$2.zst ;;
esac
"""

FOLDER_SCRIPT = """\
target={folder}/$name
if test -e "$target{suffix}"; then
    {same}
fi
mkdir -p "$(dirname "$target")"
draft=$target.$$.part
trap 'rm -f "$draft" "$draft.age"' EXIT
zstd -q "$1" -o "$draft"
{seal}sync "$draft{suffix}"
test ! -e "$target{suffix}"
mv "$draft{suffix}" "$target{suffix}"
sync "$(dirname "$target")"
"""

BUCKET_SCRIPT = """\
key={prefix}$name{suffix}
draft=$(mktemp)
trap 'rm -f "$draft" "$draft.age"' EXIT
zstd -q -f "$1" -o "$draft"
{seal}aws s3api put-object{endpoint} --bucket {bucket} --key "$key" --body "$draft{suffix}" \\
    --if-none-match '*' >/dev/null && exit 0
{same}
"""

SAME_FILE = 'zstd -dcq "$target" | cmp -s - "$1"\n    exit'
SAME_OBJECT = 'aws s3 cp{endpoint} "s3://{bucket}/$key" - | zstd -dcq | cmp -s - "$1"'


def lines(policy: Policy, source: Server) -> str:
    """All of it, for a policy and the server it names. The password is not in it."""
    receiver = RECEIVER.format(
        slot=slot_of(policy), user=source.user, database=source.database, address="<address of this control plane>/32"
    )
    return receiver + "\n" + COMMAND.format(path=SCRIPT_PATH) + "\n" + script(policy)


def script(policy: Policy) -> str:
    """The shell script that archive_command runs."""
    suffix = ".age" if policy.recipient else ""
    seal = f'age -r {quote(policy.recipient)} -o "$draft.age" "$draft"\n' if policy.recipient else ""
    settings = policy.storage.settings
    if policy.storage.kind == "folder":
        # What is encrypted cannot be compared without the key: then it is the same only by its name.
        same = SAME_FILE if not policy.recipient else "exit 1"
        folder = quote(f"{str(settings['path']).rstrip('/')}/{policy.prefix}{FOLDER}".rstrip("/"))
        return HEAD + FOLDER_SCRIPT.format(folder=folder, suffix=suffix, seal=seal, same=same)
    endpoint = f" --endpoint-url {quote(settings['endpoint_url'])}" if settings.get("endpoint_url") else ""
    bucket = quote(str(settings["bucket"]))
    prefix = "/".join(part for part in (str(settings.get("prefix", "")).strip("/"), policy.prefix + FOLDER) if part)
    same = SAME_OBJECT.format(endpoint=endpoint, bucket=bucket) if not policy.recipient else "exit 1"
    return HEAD + BUCKET_SCRIPT.format(
        prefix=quote(prefix), suffix=suffix, seal=seal, endpoint=endpoint, bucket=bucket, same=same
    )
