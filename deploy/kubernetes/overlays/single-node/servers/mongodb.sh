#!/bin/sh
# Starts SecantusDB, which speaks MongoDB's protocol.
set -eu
export PYTHONPATH=/opt/secantusdb PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
exec python3 -c 'import sys; from secantus.cli import main; sys.exit(main())' \
  --host 0.0.0.0 --port 27017 --storage-path /data/db --cache-size 256M --log-level WARNING
