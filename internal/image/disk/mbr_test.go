package disk

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// TestSetPartition compares entries with some that were worked out by hand.
func TestSetPartition(t *testing.T) {
	for name, tt := range map[string]struct {
		p    Partition
		want string
	}{
		"at 2 MiB": {Partition{Type: 0x83, Start: 2 << 20, Size: 1 << 20}, "00" + "410200" + "83" + "612100" + "00100000" + "00080000"},
		"far away": {Partition{Type: 0x83, Start: 100 << 30, Size: 1 << 30}, "00" + "feffff" + "83" + "feffff" + "0000800c" + "00002000"},
	} {
		mbr := bytes.Repeat([]byte{0xaa}, sector)
		if err := SetPartition(mbr, 1, tt.p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := hex.EncodeToString(mbr[0x1ce:0x1de]); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
		if got := Partitions(mbr)[1]; got != tt.p {
			t.Errorf("%s: it reads as %+v", name, got)
		}
		if mbr[0x1cd] != 0xaa || mbr[0x1de] != 0xaa {
			t.Errorf("%s: its neighbours were changed", name)
		}
	}
	for _, p := range []Partition{{Start: 1, Size: 512}, {Start: 512, Size: 5}, {Start: 2 << 40, Size: 512}, {Start: 512, Size: 2 << 40}} {
		if err := SetPartition(make([]byte, sector), 1, p); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}
