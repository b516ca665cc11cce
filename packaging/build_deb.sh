#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes a package for this Debian and its own Python: packaging/build_deb.sh WHEEL FOLDER [REVISION]
#
# The package holds an environment in /opt/htmengine with all extras, where the units of conf/systemd expect it.
# With SOURCE_DATE_EPOCH, the files of the package have that time.
set -eu
wheel=$(realpath "$1") folder=$(realpath "$2") revision=${3:-1}
cd "$(dirname "$0")/.."
python=${PYTHON:-/usr/bin/python3}
version=$(basename "$wheel" | cut -d- -f2 | sed 's/\.dev/~dev/')-$revision
architecture=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root venv=$work/root/opt/htmengine
# What the wheel brings.
share=$venv/share conf=$venv/share/htmengine/conf

"$python" -m venv --without-pip "$venv"
"${PIP_PYTHON:-$python}" -m pip --quiet --python "$venv/bin/python" install --no-compile "$wheel[all]"
# Other packages' tests are never run here.
find "$venv/lib" -depth -type d \( -name tests -o -name test \) -path '*/site-packages/*/*' -exec rm -r {} +
# The environment knows where it is.
grep -rlIF "$work/root" "$venv/bin" "$venv/pyvenv.cfg" | xargs sed -i "s#$work/root##g"
"$python" -m compileall -q -s "$root" -p / "$venv/lib"

mkdir -p "$root/etc/htmengine" "$root/usr/bin" "$root/usr/lib/sysusers.d" "$root/lib/systemd/system" "$root/DEBIAN" \
  "$root/usr/share/doc/htmengine/examples" "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions" \
  "$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
# Without rabbitmq.conf: with one, commands address a distributed engine.
cp "$conf/application.conf" "$conf/model-checkpoint.conf" "$conf/model-swapper.conf" "$root/etc/htmengine"
cp "$conf/rabbitmq.conf" "$conf/supervisord-base.conf" "$root/usr/share/doc/htmengine/examples"
cp "$conf"/systemd/*.service "$conf"/systemd/*.target "$root/lib/systemd/system"
cp "$conf/systemd/htmengine.sysusers" "$root/usr/lib/sysusers.d/htmengine.conf"
cp LICENSE "$root/usr/share/doc/htmengine/copyright"
gzip -9n < CHANGELOG.md > "$root/usr/share/doc/htmengine/changelog.gz"
gzip -9n < "$share/man/man1/htmengine.1" > "$root/usr/share/man/man1/htmengine.1.gz"
cp "$share"/bash-completion/completions/* "$root/usr/share/bash-completion/completions"
cp "$share"/zsh/site-functions/* "$root/usr/share/zsh/vendor-completions"
cp "$share"/fish/vendor_completions.d/* "$root/usr/share/fish/vendor_completions.d"
ln -s /opt/htmengine/bin/htmengine "$root/usr/bin/htmengine"

minor=$("$python" -c 'import sys; print(sys.version_info.minor)')
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" \
  -e "s/@PYTHON@/python3 (>= 3.$minor), python3 (<< 3.$((minor + 1)))/" \
  -e "s/@SIZE@/$(du -sk --exclude DEBIAN "$root" | cut -f1)/" packaging/debian/control > "$root/DEBIAN/control"
(cd "$root" && find etc -type f -printf '/%p\n' | sort) > "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
  install -m 755 "packaging/debian/$script" "$root/DEBIAN/$script"
done
chmod -R u=rwX,go=rX "$root"
dpkg-deb --root-owner-group -Zzstd -z6 --build "$root" "$folder/htmengine_${version}_$architecture.deb"
