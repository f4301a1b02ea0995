#!/usr/bin/env bash
# Checks the signature of a bundle's checkpoint with OpenSSL, and the manifest with sha256sum; nothing else.
# usage: verify-openssl.sh BUNDLE_DIR VKEY_FILE
set -euo pipefail
bundle=$1
vkey=$(grep -v '^#' "$2" | grep -m 1 .)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Verifier key: name + key id + base64(1 || 32 bytes of Ed25519 key).
name=${vkey%%+*}
rest=${vkey#*+}
id=${rest%%+*}
printf '%s' "${rest#*+}" | base64 -d | tail -c 32 > "$work/raw"
# A raw Ed25519 key becomes SubjectPublicKeyInfo behind this fixed head (RFC 8410).
{ printf '\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00'; cat "$work/raw"; } > "$work/key.der"

# The text is everything before the last empty line; the signature line begins with an em dash.
line=$(grep -F -- "— $name " "$bundle/checkpoint" | tail -n 1)
printf '%s' "${line##* }" | base64 -d > "$work/signature"
[ "$(head -c 4 "$work/signature" | od -An -tx1 | tr -d ' \n')" = "$id" ] || { echo "the checkpoint names another key" >&2; exit 1; }
tail -c 64 "$work/signature" > "$work/ed25519"
[ "$(wc -c < "$work/signature")" -eq 68 ] || { echo "not an Ed25519 signature" >&2; exit 1; }
head -n 3 "$bundle/checkpoint" > "$work/text"
[ "$(sed -n 4p "$bundle/checkpoint")" = "" ] || { echo "the checkpoint has more than three lines" >&2; exit 1; }
[ "$(sed -n 1p "$bundle/checkpoint")" = "$name" ] || { echo "the checkpoint is of another log" >&2; exit 1; }

openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/key.der" -rawin -in "$work/text" -sigfile "$work/ed25519"
cd "$bundle"
sha256sum --quiet --strict -c MANIFEST
