# Read by the shims beside it: finds a script's own interpreter, and the real program behind a shim's name.

# The interpreter listed for script $1 in the map, if any, as $listed.
find_listed() {
    listed=
    [ -n "${ML_INTERN_SCRIPTS:-}" ] && [ -r "$ML_INTERN_SCRIPTS" ] || return 0
    case $1 in
        */*) folder=${1%/*} ;;
        *) folder=. ;;
    esac
    folder=$(cd -P -- "${folder:-/}" 2>/dev/null && pwd -P) || return 0
    wanted=${folder%/}/${1##*/}
    while IFS='	' read -r script python; do
        if [ "$script" = "$wanted" ]; then
            listed=$python
            return 0
        fi
    done <"$ML_INTERN_SCRIPTS"
}

# Become the interpreter $listed with the given arguments, as in an activated environment.
run_listed() {
    VIRTUAL_ENV=${listed%/bin/*}
    PATH=${listed%/*}:$PATH
    export VIRTUAL_ENV PATH
    exec "$listed" "$@"
}

# Become the first program named $1 in PATH that is not in this folder.
run_real() {
    name=$1
    shift
    rest=$PATH:
    while [ -n "$rest" ]; do
        entry=${rest%%:*}
        rest=${rest#*:}
        if [ "$entry" != "$here" ] && [ -x "$entry/$name" ] && [ ! -d "$entry/$name" ]; then
            exec "$entry/$name" "$@"
        fi
    done
    echo "$name: not found in this sandbox." >&2
    exit 127
}

# Why script $1, which asks for packages, has no environment; nothing if it asks for none.
why_unlisted() {
    if [ -f "$1" ] && grep -q '^# /// script' "$1"; then
        echo "the environment of $1 was not built, as it was not there, or not named, when this command started: run it in a command of its own."
    fi
}
