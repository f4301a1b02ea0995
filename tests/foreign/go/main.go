// Checks a bundle with Go's golang.org/x/mod/sumdb/{note,tlog}: nothing of siv is used.
//
// usage: verify BUNDLE_DIR VKEY_FILE [OLD_CHECKPOINT_FILE]
//        verify --proof PROOF_FILE BUNDLE_DIR VKEY_FILE
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

type checkpoint struct {
	origin string
	tree   tlog.Tree
}

func open(text []byte, verifiers note.Verifiers) checkpoint {
	signed, err := note.Open(text, verifiers)
	if err != nil {
		fail("checkpoint: %v", err)
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[0] != signed.Sigs[0].Name {
		fail("checkpoint: not three lines of the key's own log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		fail("checkpoint: size: %v", err)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		fail("checkpoint: root")
	}
	point := checkpoint{origin: lines[0], tree: tlog.Tree{N: size}}
	copy(point.tree.Hash[:], root)
	return point
}

func number(n int64) string {
	text := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		text = fmt.Sprintf("x%03d/%s", n%1000, text)
	}
	return text
}

// path of a tile or entry bundle in a tree of size leaves.
func path(level string, n, size int64) (string, int64) {
	width := size - n*256
	if width >= 256 {
		return "tile/" + level + "/" + number(n), 256
	}
	return fmt.Sprintf("tile/%s/%s.p/%d", level, number(n), width), width
}

func entries(dir string, n, size int64) [][]byte {
	name, width := path("entries", n, size)
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		fail("%s: %v", name, err)
	}
	var leaves [][]byte
	for len(data) > 0 {
		if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
			fail("%s: breaks off", name)
		}
		length := int(binary.BigEndian.Uint16(data))
		leaves = append(leaves, data[2:2+length])
		data = data[2+length:]
	}
	if int64(len(leaves)) != width {
		fail("%s: %d entries, %d expected", name, len(leaves), width)
	}
	return leaves
}

func read(name string) []byte {
	data, err := os.ReadFile(name)
	if err != nil {
		fail("%v", err)
	}
	return data
}

func trusted(name string) note.Verifiers {
	verifier, err := note.NewVerifier(strings.TrimSpace(string(read(name))))
	if err != nil {
		fail("vkey: %v", err)
	}
	return note.VerifierList(verifier)
}

// prove checks a tlog-proof about an entry whose bytes stand in a bundle.
func prove(file, dir string, verifiers note.Verifiers) {
	head, signed, found := strings.Cut(string(read(file)), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		fail("proof: not a tlog-proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		fail("proof: index: %v", err)
	}
	point := open([]byte(signed), verifiers)
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			fail("proof: %v", err)
		}
		proof = append(proof, hash)
	}
	size := open(read(filepath.Join(dir, "checkpoint")), verifiers).tree.N
	leaf := entries(dir, index/256, size)[index%256]
	if err := tlog.CheckRecord(proof, point.tree.N, point.tree.Hash, index, tlog.RecordHash(leaf)); err != nil {
		fail("proof: entry %d is not under the signed root: %v", index, err)
	}
	fmt.Printf("%s: entry %d is one of %d\n", point.origin, index, point.tree.N)
}

func main() {
	if len(os.Args) == 5 && os.Args[1] == "--proof" {
		prove(os.Args[2], os.Args[3], trusted(os.Args[4]))
		return
	}
	if len(os.Args) < 3 {
		fail("usage: verify BUNDLE_DIR VKEY_FILE [OLD_CHECKPOINT_FILE]")
	}
	dir := os.Args[1]
	verifiers := trusted(os.Args[2])
	point := open(read(filepath.Join(dir, "checkpoint")), verifiers)
	size := point.tree.N

	from, to := int64(0), size
	if text, err := os.ReadFile(filepath.Join(dir, "range")); err == nil {
		if _, err := fmt.Sscanf(string(text), "%d %d\n", &from, &to); err != nil || from%256 != 0 || to > size {
			fail("range: not one of this log")
		}
	}

	// The whole tree again, from the hashes of the leaves alone.
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			if index >= int64(len(stored)) {
				return nil, fmt.Errorf("no stored hash %d", index)
			}
			found[i] = stored[index]
		}
		return found, nil
	})
	for n := int64(0); n*256 < size; n++ {
		name, width := path("0", n, size)
		tile := read(filepath.Join(dir, name))
		if int64(len(tile)) != width*tlog.HashSize {
			fail("%s: %d bytes", name, len(tile))
		}
		var leaves [][]byte
		if n*256 >= from && n*256 < to {
			leaves = entries(dir, n, size)
		}
		for i := int64(0); i < width; i++ {
			var hash tlog.Hash
			copy(hash[:], tile[i*tlog.HashSize:])
			if leaves != nil && tlog.RecordHash(leaves[i]) != hash {
				fail("entry %d is not the one in %s", n*256+i, name)
			}
			hashes, err := tlog.StoredHashesForRecordHash(n*256+i, hash, reader)
			if err != nil {
				fail("%v", err)
			}
			stored = append(stored, hashes...)
		}
	}
	if size > 0 {
		root, err := tlog.TreeHash(size, reader)
		if err != nil || root != point.tree.Hash {
			fail("the root over all entries is not the signed one")
		}
	}
	// A proof for each entry, made and checked by the library.
	for index := from; index < to; index++ {
		leaf, _ := reader([]int64{tlog.StoredHashIndex(0, index)})
		proof, err := tlog.ProveRecord(size, index, reader)
		if err == nil {
			err = tlog.CheckRecord(proof, size, point.tree.Hash, index, leaf[0])
		}
		if err != nil {
			fail("entry %d: %v", index, err)
		}
	}
	// Upper hash tiles, as tlog-tiles lays them out.
	for level, width := 1, size/256; width > 0; level, width = level+1, width/256 {
		for n := int64(0); n*256 < width; n++ {
			name, count := path(strconv.Itoa(level), n, width)
			tile := read(filepath.Join(dir, name))
			if int64(len(tile)) != count*tlog.HashSize {
				fail("%s: %d bytes", name, len(tile))
			}
			for i := int64(0); i < count; i++ {
				want, err := reader([]int64{tlog.StoredHashIndex(8*level, n*256+i)})
				if err != nil || string(want[0][:]) != string(tile[i*tlog.HashSize:(i+1)*tlog.HashSize]) {
					fail("%s: hash %d", name, i)
				}
			}
		}
	}
	if len(os.Args) > 3 {
		old := open(read(os.Args[3]), verifiers)
		if old.origin != point.origin || old.tree.N > size {
			fail("the log does not continue the older checkpoint")
		}
		if old.tree.N > 0 {
			proof, err := tlog.ProveTree(size, old.tree.N, reader)
			if err == nil {
				err = tlog.CheckTree(proof, size, point.tree.Hash, old.tree.N, old.tree.Hash)
			}
			if err != nil {
				fail("the log does not continue the older checkpoint: %v", err)
			}
		}
	}
	fmt.Printf("%s: entries %d to %d of %d hold\n", point.origin, from, to, size)
}
