# shellcheck shell=bash disable=SC2154 # What tests/deploy.sh sets is known to it alone.
# Parts of tests/deploy.sh: what the scripts and the units look like. Sourced.

part_scripts() {
  install_packages shellcheck || { not_run scripts "there is no shellcheck here"; return 0; }
  local files
  mapfile -t files < <(find deploy tests -name '*.sh'; find deploy/debian -type f)
  # 1091: what is sourced is among them. 2119: functions with arguments that may be left out.
  expect "shellcheck has nothing to say of ${#files[@]} scripts" \
    shellcheck -x -P SCRIPTDIR -S info -e SC1091,SC2119,SC2317 "${files[@]}"
  local script
  for script in cluster install packages compose/image; do
    expect "deploy/$script.sh says how it is used" grep -q '^usage: ' <("deploy/$script.sh" --help)
  done
}

# What systemd says of the units, with programs that are there.
part_units() {
  install_packages systemd >/dev/null 2>&1 || true
  command -v systemd-analyze >/dev/null 2>&1 || { not_run units "there is no systemd-analyze here"; return 0; }
  local unit said
  mkdir "$work/units"
  for unit in stint-server stint-agent; do
    sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' "deploy/systemd/$unit.service" >"$work/units/$unit.service"
    # It ends well whatever it has to say, and names units of the machine too, which are not ours. Before version 254 one name
    # is not known, which the unit allows for.
    said=$(systemd-analyze verify --man=no "$work/units/$unit.service" 2>&1 || true)
    if grep "$unit\.service" <<<"$said" | grep -v "'DelegateSubgroup'"; then broken "systemd has something to say of $unit.service"; fi
    printf 'ok: %s\n' "systemd has nothing to say of $unit.service"
  done
  # How much the server could do to its machine, from 0 to 10 by systemd's own measure; without any of its lines it is 9.2.
  if systemd-analyze security --help 2>&1 | grep -- --threshold >/dev/null; then
    expect "the server is confined" systemd-analyze security --offline=true --threshold=20 "$work/units/stint-server.service"
  else
    not_run "the measure of the server's confinement" "this systemd can't tell it"
  fi
}
