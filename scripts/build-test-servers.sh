#!/bin/sh
# Builds the object store servers the tests run against into .cache/bin, at the
# versions tools/testservers/go.mod pins. Does nothing when they are there.
set -eu

cd "$(dirname "$0")/.."
bin=$PWD/.cache/bin
mkdir -p "$bin"
echo '*' >.cache/.gitignore
cd tools/testservers

want=$({ go env GOVERSION; cat go.mod go.sum; } | sha256sum | cut -d' ' -f1)
build() {
	stamp=$bin/$1.stamp
	if [ -x "$bin/$1" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
		return
	fi
	echo "building $1 (a few minutes the first time)"
	rm -f "$stamp"
	nice -n 10 go build -trimpath -ldflags '-s -w' -o "$bin/$1.new" "$2"
	mv "$bin/$1.new" "$bin/$1"
	echo "$want" >"$stamp"
}

build versitygw github.com/versity/versitygw/cmd/versitygw
build fake-gcs-server github.com/fsouza/fake-gcs-server
