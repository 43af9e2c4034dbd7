package compose

import (
	"encoding/binary"
	"io"
)

// The EFI system partition is FAT32 with clusters of one sector, as small as
// has enough of them to be FAT32 with room for the guest; see Microsoft's
// "FAT32 File System Specification" 1.03.
const (
	espSize     = 64 << 20
	espSectors  = espSize / sector
	espReserved = 32 // sectors before the first FAT
	// Each of a FAT's sectors is for 128 clusters, and takes the place of two
	// of them, as there are two FATs.
	fatSectors  = (espSectors - espReserved + 2 + 129) / 130
	espData     = espReserved + 2*fatSectors // the sector of cluster 2
	espClusters = espSectors - espData

	// Clusters of the root, of EFI, of EFI/BOOT and of the guest.
	clusterRoot, clusterEFI, clusterBoot, clusterKernel = 2, 3, 4, 5

	maxKernel = (espClusters + 2 - clusterKernel) * sector
)

const (
	fatEnd       = 0x0fffffff // of a file
	attrLabel    = 0x08
	attrDir      = 0x10
	attrArchive  = 0x20
	fatEpoch     = 1<<5 | 1 // 1980-01-01
	espLabel     = "CAPSTAN    "
	backupSector = 6 // of the boot sector and what follows it
)

// writeESP writes a file system that begins at byte start of the disk, with
// the guest where firmware looks for what boots from a removable medium (UEFI
// specification 2.10, section 3.5.1.1).
func writeESP(w io.WriterAt, start int64, id identity, kernel []byte) error {
	used := int64(clusterKernel-2) + (int64(len(kernel))+sector-1)/sector
	boot := bootSector(start, id, used)
	fat := fileTable(len(kernel))
	dirs := make([]byte, 3*sector)
	name := func(cluster, slot int, name string, attr byte, first, size int) {
		dirEntry(dirs[(cluster-clusterRoot)*sector+slot*32:], name, attr, first, size)
	}
	name(clusterRoot, 0, espLabel, attrLabel, 0, 0)
	name(clusterRoot, 1, "EFI        ", attrDir, clusterEFI, 0)
	name(clusterEFI, 0, ".          ", attrDir, clusterEFI, 0)
	name(clusterEFI, 1, "..         ", attrDir, 0, 0) // 0 stands for the root
	name(clusterEFI, 2, "BOOT       ", attrDir, clusterBoot, 0)
	name(clusterBoot, 0, ".          ", attrDir, clusterBoot, 0)
	name(clusterBoot, 1, "..         ", attrDir, clusterEFI, 0)
	name(clusterBoot, 2, "BOOTX64 EFI", attrArchive, clusterKernel, len(kernel))
	for _, part := range []struct {
		at      int64 // sector
		content []byte
	}{
		{0, boot}, {backupSector, boot},
		{espReserved, fat}, {espReserved + fatSectors, fat},
		{espData, dirs}, {espData + clusterKernel - clusterRoot, kernel},
	} {
		if _, err := w.WriteAt(part.content, part.at*sector); err != nil {
			return err
		}
	}
	return nil
}

// bootSector returns the boot sector, which boots nothing, and the sector
// FSInfo, which says how much is free.
func bootSector(start int64, id identity, used int64) []byte {
	le := binary.LittleEndian
	b := make([]byte, 2*sector)
	copy(b, "\xeb\x58\x90CAPSTAN ")
	le.PutUint16(b[11:], sector)
	b[13] = 1 // sectors a cluster
	le.PutUint16(b[14:], espReserved)
	b[16] = 2    // FATs
	b[21] = 0xf8 // a fixed disk
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[28:], uint32(start/sector))
	le.PutUint32(b[32:], espSectors)
	le.PutUint32(b[36:], fatSectors)
	le.PutUint32(b[44:], clusterRoot)
	le.PutUint16(b[48:], 1) // FSInfo's sector
	le.PutUint16(b[50:], backupSector)
	b[64], b[66] = 0x80, 0x29 // the drive; an ID, a label and a type follow
	serial := id.guid(espPartition)
	copy(b[67:71], serial[:])
	copy(b[71:], espLabel+"FAT32   ")
	info := b[sector:]
	copy(info, "RRaA")
	copy(info[484:], "rrAa")
	le.PutUint32(info[488:], uint32(espClusters-used))
	le.PutUint32(info[492:], uint32(used+clusterRoot)) // the first that is free
	for _, end := range []int{510, sector + 510} {
		b[end], b[end+1] = 0x55, 0xaa
	}
	return b
}

// fileTable returns the FAT up to the guest's end; what follows is free.
func fileTable(kernel int) []byte {
	n := (kernel + sector - 1) / sector
	b := make([]byte, 4*(clusterKernel+n))
	put := func(cluster int, next uint32) { binary.LittleEndian.PutUint32(b[4*cluster:], next) }
	put(0, 0x0ffffff8) // the medium's type again
	for _, cluster := range []int{1, clusterRoot, clusterEFI, clusterBoot} {
		put(cluster, fatEnd)
	}
	for i := range n {
		put(clusterKernel+i, uint32(clusterKernel+i+1))
	}
	put(clusterKernel+n-1, fatEnd)
	return b
}

func dirEntry(b []byte, name string, attr byte, first, size int) {
	le := binary.LittleEndian
	copy(b, name)
	b[11] = attr
	le.PutUint16(b[16:], fatEpoch) // made
	le.PutUint16(b[18:], fatEpoch) // read
	le.PutUint16(b[20:], uint16(first>>16))
	le.PutUint16(b[24:], fatEpoch) // written
	le.PutUint16(b[26:], uint16(first))
	le.PutUint32(b[28:], uint32(size))
}
