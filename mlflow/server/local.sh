#!/usr/bin/env bash
# The server of compose.yaml without Docker, on this machine: PostgreSQL and MLflow with logins.
#   mlflow/server/local.sh FOLDER [ENV_FILE]
# FOLDER keeps everything: postgres/ (runs, models, logins), artifacts/ and the log of PostgreSQL. Settings come from
# the environment, then from ENV_FILE (default: .env beside this file, see env.example). Ctrl-C stops both.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

refuse() {
  echo "error: $1" >&2
  exit 2
}

# ------------------------------------------------------------------ settings
if [[ $# -lt 1 || $# -gt 2 || ${1:-} == -* ]]; then
  sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
settings=${2:-$here/.env}
[[ -r $settings ]] || refuse "there is no $settings: cp $here/env.example $settings, and change every value"
while IFS= read -r line || [[ -n $line ]]; do
  [[ $line =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || continue
  name=${line%%=*}
  [[ -n ${!name+set} ]] || export "$name=${line#*=}"
done <"$settings"

for name in POSTGRES_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_AUTH_ADMIN_PASSWORD; do
  [[ -n ${!name:-} ]] || refuse "$name is not set in $settings"
  [[ ${!name} != change-me* ]] || refuse "$name in $settings is still ${!name}: put a value of your own there"
done
# MLflow's own rule, told before the database is made.
[[ ${#MLFLOW_AUTH_ADMIN_PASSWORD} -ge 12 ]] ||
  refuse "MLFLOW_AUTH_ADMIN_PASSWORD in $settings has fewer than 12 characters"
port=${MLFLOW_PORT:-5000}
[[ $port =~ ^[0-9]+$ ]] || refuse "MLFLOW_PORT is '$port', not a number"

# ------------------------------------------------------------------ programs
python=$(command -v "${PYTHON:-python3}") || refuse "${PYTHON:-python3} is not there; give PYTHON=..."
"$python" -c 'import importlib.metadata as m; [m.version(n) for n in ("mlflow", "Flask-WTF", "psycopg2-binary")]' \
  2>/dev/null || refuse "$python lacks the server's libraries: $python -m pip install '.[server]', or PYTHON=..."

programs=
for place in ${POSTGRES_BIN:+"$POSTGRES_BIN"} \
  $(command -v pg_ctl initdb | xargs -r -n 1 readlink -f | xargs -r -n 1 dirname) \
  $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
  [[ -z $programs && -x $place/initdb && -x $place/pg_ctl && -x $place/psql ]] && programs=$place
done
[[ -n $programs ]] || refuse "PostgreSQL is not there: apt install postgresql, or give POSTGRES_BIN=/folder/of/initdb"

if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
  refuse "port $port is taken: end what listens there or set MLFLOW_PORT in $settings"
fi

# ------------------------------------------------------------------ folder
mkdir -p "$1" 2>/dev/null || refuse "cannot create $1"
data=$(cd "$1" && pwd -P)
sockets=$data/sockets
# The kernel's limit for the address of a Unix socket, less the name of the file.
[[ ${#sockets} -le 90 ]] || refuse "$data is too long for a Unix socket: take a shorter path"

as_owner=()
if [[ $EUID -eq 0 ]]; then # PostgreSQL refuses to run as root
  owner=postgres
  id "$owner" >/dev/null 2>&1 || owner=nobody
  as_owner=(runuser -u "$owner" --)
  mkdir -p "$data/postgres" "$sockets"
  chown -R "$owner" "$data/postgres" "$sockets"
  "${as_owner[@]}" test -x "$data" -a -x "$sockets" ||
    refuse "the user $owner cannot enter $data: take a folder below one that everybody can enter, such as /srv"
else
  mkdir -p "$data/postgres" "$sockets"
fi
chmod 700 "$data/postgres"

# ------------------------------------------------------------------ PostgreSQL, reached by a Unix socket only
export PGHOST=$sockets PGPORT=5432 PGUSER=mlflow PGPASSWORD=$POSTGRES_PASSWORD
cd "$data"
if [[ ! -s postgres/PG_VERSION ]]; then
  echo "making the database in $data/postgres"
  secret=$sockets/password
  (umask 077 && printf '%s\n' "$POSTGRES_PASSWORD" >"$secret")
  [[ -z ${owner:-} ]] || chown "$owner" "$secret"
  "${as_owner[@]}" "$programs/initdb" --pgdata=postgres --username=mlflow --auth=scram-sha-256 --encoding=UTF8 \
    --pwfile="$secret" >initdb.log 2>&1 || { rm "$secret" && refuse "initdb failed, see $data/initdb.log"; }
  rm "$secret"
fi

# shellcheck disable=SC2329 # the trap calls it
stop() {
  trap - EXIT
  trap '' INT TERM
  if [[ -n ${server:-} ]]; then
    kill -TERM -- "-$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  "${as_owner[@]}" "$programs/pg_ctl" stop --pgdata=postgres --mode=fast --silent || true
  echo "stopped"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if ! "${as_owner[@]}" "$programs/pg_ctl" status --pgdata=postgres >/dev/null; then # one that was left alone is used
  "${as_owner[@]}" "$programs/pg_ctl" start --pgdata=postgres --wait --silent --log=postgres/server.log \
    --options="-c listen_addresses='' -c unix_socket_directories='$sockets'" ||
    refuse "PostgreSQL does not start, see $data/postgres/server.log"
fi
if ! answer=$("$programs/psql" --no-password --dbname=postgres --tuples-only --no-align \
  --command="SELECT count(*) FROM pg_database WHERE datname = 'mlflow'" 2>&1); then
  refuse "PostgreSQL in $data refuses: ${answer##*FATAL:} (POSTGRES_PASSWORD is that of the first start)"
fi
[[ $answer == 1 ]] || "$programs/psql" --no-password --dbname=postgres --quiet --command="CREATE DATABASE mlflow"

# ------------------------------------------------------------------ MLflow
export MLFLOW_AUTH_CONFIG_PATH=$here/auth.ini MLFLOW_DISABLE_TELEMETRY=true
# Jobs are for language models; their runners cost a process each.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}
options=(
  --backend-store-uri=postgresql+psycopg2://mlflow@/mlflow # where it is, and the password, are in the PG variables
  --artifacts-destination="${MLFLOW_ARTIFACTS_DESTINATION:-$data/artifacts}"
  --app-name=basic-auth
  --host=127.0.0.1 --port="$port" --workers="${MLFLOW_WORKERS:-2}"
  --allowed-hosts="${MLFLOW_ALLOWED_HOSTS:-localhost:*,127.0.0.1:*}"
)

set -m # its own process group, so that Ctrl-C reaches this script first and stops them in order
"$python" -m mlflow server "${options[@]}" &
server=$!
set +m
until { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null; do
  kill -0 "$server" 2>/dev/null || refuse "MLflow did not start, see above"
  sleep 0.5
done
exec 3<&-
echo "ready: http://127.0.0.1:$port keeps everything in $data; Ctrl-C stops it"
wait "$server" || true
refuse "MLflow ended by itself, see above"
