# A shell in the built workspace:  source env.sh   (bash or zsh)
# Python, ROS and colcon of .venv, and our package once it is built. `make setup` makes both.

if [ -n "${BASH_SOURCE:-}" ]; then _timar_root=${BASH_SOURCE[0]}; else _timar_root=$0; fi
_timar_root=$(cd "$(dirname "$_timar_root")" && pwd)

if [ ! -x "$_timar_root/.venv/bin/python" ]; then
  echo "env.sh: no $_timar_root/.venv yet; run 'make setup' first" >&2
  return 1
fi
case "${AMENT_PREFIX_PATH:-$_timar_root/}" in
  "$_timar_root"/*) ;;
  *) echo "env.sh: another ROS is sourced in this shell (AMENT_PREFIX_PATH=$AMENT_PREFIX_PATH);" \
       "open a shell without it, or build with that ROS: colcon build" >&2
     return 1 ;;
esac

. "$_timar_root/.venv/bin/activate"
# The ROS wheels are found as one prefix, by ament at run time and by CMake at build time.
export AMENT_PREFIX_PATH="$_timar_root/.venv" CMAKE_PREFIX_PATH="$_timar_root/.venv"
if [ -e "$_timar_root/install/local_setup.sh" ]; then
  if [ -n "${ZSH_VERSION:-}" ]; then . "$_timar_root/install/local_setup.zsh"
  else . "$_timar_root/install/local_setup.bash"; fi
fi
unset _timar_root
