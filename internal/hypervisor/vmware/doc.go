// Package vmware runs instances on VMware Workstation, Player and Fusion, by
// their command vmrun and a .vmx file.
//
// None of them boots a kernel by itself: the instance's disk holds the guest,
// and EFI firmware starts it. Three serial ports carry the kernel's console, the
// application's and the control channel; VMware connects them to sockets of ours
// when it switches the machine on, so that nothing is missed and nobody else can
// connect.
//
// The machine is all that lies in the folder "vmware" of the instance's
// directory, which is made at each start and goes with the machine's end; the
// disk is beside it. (vmrun's deleteVM is not used: it deletes the disk as well.)
// VMware's processes do not end with ours. Where ours is killed, the machine runs
// on until the next command that lists, starts or removes instances.
//
// VMware forwards ports of the host's by a file of its own for all machines,
// which only an administrator may write; so this driver forwards none.
package vmware
