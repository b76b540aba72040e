#!/bin/sh
# Starts Debian's MariaDB. On an empty volume it makes the database, its user and the tables first, as the official image does.
set -eu
folder=/var/lib/mysql
if [ ! -d "$folder/data" ]; then
  # The folder gets its name when it is whole: a first start that was cut short begins anew.
  rm -rf "$folder/new"
  mariadb-install-db --no-defaults --datadir="$folder/new" --skip-test-db --auth-root-authentication-method=normal >/dev/null
  {
    cat /docker-entrypoint-initdb.d/*.sql
    # A bootstrap knows no accounts before this.
    echo "FLUSH PRIVILEGES;"
    echo "CREATE USER '$MARIADB_USER'@'%' IDENTIFIED BY '$MARIADB_PASSWORD';"
    echo "GRANT ALL ON $MARIADB_DATABASE.* TO '$MARIADB_USER'@'%';"
    echo "ALTER USER root@localhost IDENTIFIED BY '$MARIADB_ROOT_PASSWORD';"
  } | mariadbd --no-defaults --bootstrap --datadir="$folder/new"
  mv "$folder/new" "$folder/data"
fi
exec mariadbd --no-defaults --datadir="$folder/data" --bind-address=0.0.0.0 --socket=/run/mysqld/mysqld.sock \
  --pid-file=/run/mysqld/mysqld.pid --skip-name-resolve --character-set-server=utf8mb4
