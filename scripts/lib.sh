# Shared by the install scripts: install Debian packages where that is possible, else say exactly what is missing.
# shellcheck shell=bash

# install_packages WHO_NEEDS PACKAGE...: installs as root or through sudo with apt, and fails with the command to run where
# neither is possible.
install_packages() {
    local who_needs=$1
    shift
    local -a as_root=()
    if ! command -v apt-get >/dev/null; then
        echo "$who_needs these (Debian's names): $*. This system has no apt-get; please install them and run this again." >&2
        return 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        # Without a terminal sudo cannot ask for a password.
        if ! command -v sudo >/dev/null || { ! sudo -n true 2>/dev/null && [ ! -t 0 ]; }; then
            echo "$who_needs: $*. Neither root nor sudo is available; please have this run and try again:" >&2
            echo "    apt-get install --no-install-recommends $*" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    echo "$who_needs: $*. Installing."
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q ||
        echo "Not every package list could be refreshed; going on with those that are there." >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
    # Debian's Prometheus and Alertmanager would be there for the whole network from now on. Nobody here asked for that.
    local package
    for package in "$@"; do
        case $package in prometheus*)
            if [ -d /run/systemd/system ]; then "${as_root[@]}" systemctl disable --now --quiet "$package" || true; fi
            ;;
        esac
    done
}
