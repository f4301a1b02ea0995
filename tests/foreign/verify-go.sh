#!/usr/bin/env bash
# Checks a bundle with Go's own log library (Debian: golang-go, golang-golang-x-mod-dev).
# usage: verify-go.sh BUNDLE_DIR VKEY_FILE [OLD_CHECKPOINT_FILE]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=${SIV_FOREIGN_BUILD:-${TMPDIR:-/tmp}/siv-foreign-$(id -u)}
mkdir -p "$build"
export GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= GOCACHE="$build/cache" GOTOOLCHAIN=local
binary="$build/verify-$(sha256sum < "$here/go/main.go" | cut -c 1-16)"
if [ ! -x "$binary" ]; then
  go build -o "$binary.$$" "$here/go/main.go"
  mv -f "$binary.$$" "$binary"
fi
exec "$binary" "$@"
