# Runs as root inside the new root filesystem of template `base`, after packages.txt is installed and
# this folder is at /tmp/recipe; it needs the package registries of Python and npm. What of the
# recipe stays is in /usr/local.
set -eu
recipe=/tmp/recipe
kernels=/usr/local/share/jupyter/kernels

# The interpreter that users' commands find is the one that cells run on.
python3 -m pip install -q --no-cache-dir --root-user-action=ignore -r "$recipe/requirements.txt"

mkdir -p "$kernels"
cp -r "$recipe/kernels/." "$kernels/"
(cd "$kernels/javascript" && npm ci --no-audit --no-fund)
# Debian's npm does not make the links of optional packages.
mkdir -p "$kernels/javascript/node_modules/.bin"
for node in "$kernels"/javascript/node_modules/node-linux-*/bin/node; do
    ln -sf "$node" "$kernels/javascript/node_modules/.bin/node"
    ln -sf "$node" /usr/local/bin/node
done

# Compiled once here, not by every sandbox at its first use.
python3 -m compileall -q /usr/local/lib/python3*/dist-packages "$kernels/python3"
chmod -R a+rX "$kernels"
rm -rf "$recipe" /root/.npm /root/.cache
