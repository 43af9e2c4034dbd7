// Package vbox runs instances on VirtualBox, by its command VBoxManage.
//
// VirtualBox boots no kernel by itself: the instance's disk holds the guest,
// and EFI firmware starts it. Three serial ports carry the kernel's console,
// the application's and the control channel; VirtualBox connects them to
// sockets of ours when it switches the machine on, so that nothing is missed
// and nobody else can connect.
//
// A machine is made and registered at each start, and is gone from VirtualBox
// at its end, but for the disk: all of it lies in the instance's directory. Its
// processes are VirtualBox's own, which no operating system ends with ours.
// Where ours is killed, the machine runs on until the next command that lists,
// starts or removes instances; it finds the machine by the UUID in the
// instance's directory.
package vbox
