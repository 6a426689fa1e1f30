#!/usr/bin/env bash
# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
#
# Make this machine ready for a target: prepare_machine.sh PYTHON GROUP...
# Check the platform and the version of Python, and install the Debian packages of the groups of
# debian.txt that are missing: as root, else through sudo. It asks for a password only on a terminal, and
# asks nothing else. STRICT=1 makes every group a must, as in CI, where no test may be skipped silently.

set -euo pipefail
export LC_ALL=C
table=$(dirname "$0")/debian.txt
python=$1
shift
wanted=" $* "
log=$(mktemp)
trap 'rm -f "$log"' EXIT

note() { echo "== $*"; }
fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

# ---- What is here ----
python_runs() { "$python" -c '' 2> /dev/null; }
has_program() { command -v "$1" > /dev/null; }
has_library() {
  { ldconfig -p || /sbin/ldconfig -p; } 2> /dev/null | grep -F "$1" > /dev/null ||
    compgen -G "/usr/lib/*/alsa-lib/$1" > /dev/null
}
has_modules() { "$python" -c "import ${1// /, }" 2> /dev/null; }
has_headers() {
  "$python" -c 'import os, sys, sysconfig as s; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' \
    2> /dev/null
}
# Ubuntu's chromium is a snap, or a script that asks for one; a snap sees no /tmp, where the tests live.
has_browser() {
  local program
  for program in chromium chromium-browser google-chrome; do
    program=$(command -v $program) && ! head -c 4096 "$program" | grep -aF /snap/ > /dev/null &&
      [[ $(readlink -f "$program") != */snap ]] && return
  done
  return 1
}
is_here() { # is_here HOW OPERANDS
  case $1 in
    python) python_runs ;;
    module) has_modules "$2" ;;
    headers) has_headers ;;
    program) has_program "$2" ;;
    library) has_library "$2" ;;
    browser) has_browser ;;
    *) fail "$table: cannot check '$1 $2'" ;;
  esac
}

# pulseaudio takes PipeWire's place as the sound server, which nobody wants for the sake of tests.
is_unwelcome() { [ "$1" = pulseaudio ] && has_program pipewire-pulse; }

# Fill `packages` (must), `extras` (optional) and `why` (by package) with what is missing.
find_missing() {
  packages=() extras=()
  declare -gA why=()
  local group how package purpose
  while IFS='|' read -r group how package purpose; do
    read -r group <<< "$group"
    if [[ $group = '' || $group = '#'* || $wanted != *" $group "* ]]; then continue; fi
    read -r how operands <<< "$how"
    if is_here "$how" "$operands"; then continue; fi
    read -r package <<< "${package/PYTHON/$python_package}"
    read -r purpose <<< "$purpose"
    if [[ -n ${why[$package]:-} ]]; then continue; fi
    if is_unwelcome "$package"; then
      note "$package is not installed beside PipeWire, whose place it would take; skipped: $purpose"
      continue
    fi
    why[$package]=$purpose
    if [ "$group" = build ] || [ -n "${STRICT:-}" ]; then packages+=("$package"); else extras+=("$package"); fi
  done < "$table"
}

list() { # with what each is for
  local package
  for package in "$@"; do printf '     %-20s%s\n' "$package" "${why[$package]}"; done
}

# ---- Become root ----
can_be_root() {
  refusal='neither root, nor sudo without a password, nor a terminal to ask for one'
  if [ "$(id -u)" = 0 ]; then root=() privilege='as root'
  elif ! has_program sudo; then return 1
  elif sudo -n true < /dev/null 2> /dev/null; then root=(sudo -n) privilege='with sudo'
  elif [ -t 0 ] && [ -t 2 ] && [ -z "${CI:-}" ]; then
    echo '   sudo may ask for your password' >&2
    refusal='sudo refused'
    sudo -v || return 1
    root=(sudo) privilege='with sudo'
  else return 1; fi
}
by_hand() {
  local sudo= as_root=
  if [ "$(id -u)" != 0 ]; then
    if has_program sudo; then sudo='sudo '; else as_root=' (as root)'; fi
  fi
  echo "  ${sudo}apt-get update && ${sudo}apt-get install $*$as_root"
}

# ---- apt-get ----
# Nothing is asked, nothing is removed, and another program's lock is waited for, five minutes at most.
n_waits=60 # of LOCK_PAUSE_S, in all
apt() {
  while ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none NEEDRESTART_SUSPEND=1 \
    apt-get -q -y --no-remove --no-install-recommends -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold "$@" < /dev/null > "$log" 2>&1; do
    grep -q 'Could not get lock\|Unable to lock\|Unable to acquire the dpkg' "$log" || return 1
    if [ $n_waits = 60 ]; then note 'another program is installing packages; waiting for it'; fi
    if [ $n_waits = 0 ]; then return 1; fi
    n_waits=$((n_waits - 1))
    sleep "${LOCK_PAUSE_S:-5}"
  done
}
reason() { { grep -E '^(E:|W:|Err:|dpkg: error)' "$log" || tail -n 5 "$log"; } | uniq | head -n 8 | sed 's/^/   /'; }
update() {
  if [ -n "${updated:-}" ]; then return 1; fi
  updated=1
  note 'apt-get update'
  apt update -o APT::Update::Error-Mode=any && return 0
  echo "apt-get update failed, so the lists of packages may be old or missing:" >&2
  reason >&2
  return 1
}
is_offered() { apt-cache policy "$1" 2> /dev/null | grep 'Candidate: [^(]' > /dev/null; }
has_lists() { apt-cache policy 2> /dev/null | grep ' Packages$' > /dev/null; }
install() { # as one, after an update where a package is not offered or cannot be fetched
  local package
  for package in "$@"; do is_offered "$package" || { update || true; break; }; done
  apt install "$@" || { update && apt install "$@"; }
}

announce() {
  if [ ${#packages[@]} -gt 0 ]; then
    note 'Debian packages that are missing here:'
    list "${packages[@]}"
  fi
  if [ ${#extras[@]} -gt 0 ]; then
    note 'optional Debian packages that are missing here; without them this does not work or is skipped:'
    list "${extras[@]}"
  fi
}

give_up() { # give_up WHY COMMAND
  if [ ${#packages[@]} -gt 0 ]; then fail "They are not installed: $1, then run make again:" "$2"; fi
  printf '%s\n' "   not installed: $1:" "$2"
  exit 0
}

# For an optional package that this machine's lists do not have (Ubuntu: chromium) neither a password nor an
# update is due, at each `make test`.
leave_what_is_not_offered() {
  local package offered=() absent=()
  if ! has_program apt-get || ! has_lists; then return; fi
  for package in "${extras[@]}"; do
    if is_offered "$package"; then offered+=("$package"); else absent+=("$package"); fi
  done
  extras=("${offered[@]}")
  if [ ${#absent[@]} -gt 0 ]; then note "apt-get has no ${absent[*]} here"; fi
}

# Optional packages come one by one where they do not come together, and what is left is named.
install_extras() {
  local package left=()
  if install "${extras[@]}"; then return; fi
  for package in "${extras[@]}"; do
    if apt install "$package"; then continue; fi
    left+=("$package")
    reason
  done
  if [ ${#left[@]} -gt 0 ]; then
    note 'cannot be had here (the reason stands above), so this does not work or is skipped:'
    list "${left[@]}"
  fi
}

install_missing() {
  if ! has_program apt-get; then
    give_up "there is no apt-get here. Install what they are for with this system's own package manager" \
      "  ${packages[*]} ${extras[*]}"
  fi
  if ! can_be_root; then give_up "$refusal. Run" "$(by_hand "${packages[@]}" "${extras[@]}")"; fi
  note "installing them (apt-get, $privilege)"
  if [ ${#packages[@]} -gt 0 ]; then
    install "${packages[@]}" || fail "$(reason)" \
      'apt-get could not install them; the reason stands above. Once it is mended, run make again, or' \
      "$(by_hand "${packages[@]}")"
  fi
  if [ ${#extras[@]} -gt 0 ]; then install_extras; fi
}

check_platform() {
  if [ "$(uname -sm)" != 'Linux x86_64' ]; then
    fail "expected Linux on x86-64, for which ROS wheels exist, got $(uname -sm); source this machine's ROS
installation and run 'colcon build' (README, \"On your robot\")"
  fi
}
check_python() {
  if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))'; then
    fail "expected Python 3.10 to 3.13, for which ROS wheels exist, got $("$python" --version) as '$python';
name another: make setup PYTHON=python3.12"
  fi
}

check_own_python() { # Debian's packages complete Debian's Pythons only
  if ! { has_modules 'venv ensurepip' && has_headers; } &&
    [ "$("$python" -c 'import sys; print(sys.base_prefix)')" != /usr ]; then
    fail "'$python' ($("$python" -c 'import sys; print(sys.base_prefix)')) lacks venv, ensurepip or its C headers" \
      'and is not the one of Debian, for which packages bring them; name another: make setup PYTHON=/usr/bin/python3'
  fi
}

check_platform
python_package=${python##*/}
if [ "$python_package" = python ]; then python_package=python3; fi
if python_runs; then
  check_python
  if [[ $wanted = *' build '* ]]; then check_own_python; fi
fi
find_missing
if [ $((${#packages[@]} + ${#extras[@]})) = 0 ]; then exit; fi
announce
leave_what_is_not_offered
if [ $((${#packages[@]} + ${#extras[@]})) = 0 ]; then exit; fi
install_missing
if [ ${#packages[@]} -gt 0 ]; then
  find_missing > /dev/null
  if [ ${#packages[@]} -gt 0 ]; then
    fail "apt-get reports that it installed ${packages[*]}, but this is still missing for '$python':" \
      "$(list "${packages[@]}")" "name a Python of Debian's: make setup PYTHON=/usr/bin/python3"
  fi
  check_python
fi
