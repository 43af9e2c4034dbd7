// Package api is the contract between the host and the guest: the instance
// config that PID 1 reads, the names of the channels between them, the REST
// API's types and the form of the exit report. It imports nothing of ours.
package api

// Version is the schema version of Config. PID 1 refuses a config of another
// version.
const Version = 1

const (
	// ConfigPath is where PID 1 finds the config as an initramfs entry.
	ConfigPath = "/capstan/config.json"

	// ConfigPartition is the GPT partition name of the config on a disk.
	ConfigPartition = "capstan-config"

	// UserData is the key of a GCE instance's metadata under which a machine
	// that has booted from a disk there finds what overrides the disk's config,
	// as it finds it on EC2 in the instance's user-data. It is of the same
	// schema: a JSON merge patch (RFC 7396) of the disk's config that has a
	// version. So what it names replaces what the disk says, objects key by
	// key, and null removes; but Env's entries come after the disk's, Root,
	// Console and Control stay the disk's, and so do None, Address and Gateway
	// of Network, by which the machine asks. A hostname that neither names is
	// the cloud's.
	UserData = "user-data"

	// ControlPort is the virtio-serial port that carries the REST API:
	// yamux sessions (the guest is the server) with HTTP/1.1 on the streams.
	ControlPort = "org.capstan.control"

	// ConsolePort is the virtio-serial port of the application's console.
	// A guest without it uses the kernel's console.
	ConsolePort = "org.capstan.console"

	// ControlHello is what the guest writes to a control channel that is a
	// serial port, before each session: such a port has no end that could be
	// seen, and loses what it is sent before somebody listens. The host sends
	// nothing before it, and passes over what comes before it.
	ControlHello = "\ncapstan-control\n"

	// ConsoleHello is what comes before the application's output on a console
	// that is a serial port: firmware may have written there.
	ConsoleHello = "\ncapstan-console\n"
)

// Config is all that PID 1 needs to know of one instance.
type Config struct {
	Version int `json:"version"`

	// Args is the application's argv, entrypoint and command joined.
	Args []string `json:"args"`
	// Env has entries K=V, in the order of precedence low to high.
	Env []string `json:"env,omitempty"`
	// Workdir is an absolute path; "" is "/". It is made if it is missing.
	Workdir string `json:"workdir,omitempty"`
	// User is "user", "uid", "user:group", "uid:gid" and mixtures, as the
	// OCI image specification's config.User; names are looked up in the
	// image's /etc/passwd and /etc/group. "" is root.
	User string `json:"user,omitempty"`

	Hostname string `json:"hostname,omitempty"`

	// TTY gives the application a terminal (a pty relayed to the console)
	// instead of pipes; Rows and Cols are its first size, 0 for the default.
	TTY  bool `json:"tty,omitempty"`
	Rows int  `json:"rows,omitempty"`
	Cols int  `json:"cols,omitempty"`
	// Stdin connects the console's input to the application's standard
	// input; otherwise that is /dev/null.
	Stdin bool `json:"stdin,omitempty"`

	// StopSignal is a name such as "SIGQUIT"; "" is SIGTERM.
	StopSignal string `json:"stop_signal,omitempty"`
	// StopTimeout is how many seconds the application has between the stop
	// signal and SIGKILL; 0 is ten.
	StopTimeout int `json:"stop_timeout,omitempty"`

	// Console and Control are serial ports, such as "/dev/ttyS1", that stand in
	// for the virtio-serial ports ConsolePort and ControlPort on machines that
	// have none. "" is those.
	Console string `json:"console,omitempty"`
	Control string `json:"control,omitempty"`

	Root    Root    `json:"root"`
	Network Network `json:"network"`
	Mounts  []Mount `json:"mounts,omitempty"`

	// Sysctls are set after PID 1's own defaults: "net.core.somaxconn": "128".
	Sysctls map[string]string `json:"sysctls,omitempty"`

	// Image is where the root comes from. The guest takes no notice of it.
	Image Image `json:"image,omitzero"`

	// Time is the host's clock when the config was written, in nanoseconds
	// since the epoch: a floor for guests without a clock device. 0: unknown.
	Time int64 `json:"time,omitempty"`

	// Begin makes PID 1 write a Begin report on the console before it starts
	// the application, for hosts that have nothing else to ask.
	Begin bool `json:"begin,omitempty"`

	// StopByNMI makes a non-maskable interrupt an orderly stop, for platforms
	// that have no other way to a guest without the platform's own tools.
	StopByNMI bool `json:"stop_by_nmi,omitempty"`

	// Verbose makes PID 1 say on the kernel's console what it does.
	Verbose bool `json:"verbose,omitempty"`
}

// Image is the image that a disk was made of, for those who look into the disk.
type Image struct {
	Name   string `json:"name,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Memory in bytes and CPUs are those that the image asks for; 0: it says
	// nothing.
	Memory int64 `json:"memory,omitempty"`
	CPUs   int   `json:"cpus,omitempty"`
	// Ports are those that the application serves: "80/tcp".
	Ports []string `json:"ports,omitempty"`
}

// Root says which devices make the root file system. A device is named
// "serial:NAME" (a disk's serial number, as EC2's volumes have their ids without
// the hyphen, or the device name that a disk was attached by on Compute Engine),
// "partlabel:NAME" (a GPT partition's name) or a path such as "/dev/vda".
type Root struct {
	// Lower are read-only EROFS devices, topmost first.
	Lower []string `json:"lower"`
	// Upper is a writable ext4 device for the overlay's upper layer; ""
	// keeps writes in memory.
	Upper string `json:"upper,omitempty"`
	// ReadOnly lets nobody write to the root. Upper is not used then.
	ReadOnly bool `json:"read_only,omitempty"`
}

// Network is the configuration of eth0. The zero value asks for DHCP.
type Network struct {
	// None leaves everything but loopback down.
	None bool `json:"none,omitempty"`
	// Address is in CIDR notation; "" asks DHCP for all that follows.
	Address     string   `json:"address,omitempty"`
	Gateway     string   `json:"gateway,omitempty"`
	Nameservers []string `json:"nameservers,omitempty"`
	Search      []string `json:"search,omitempty"`
	// Hosts are further lines for /etc/hosts: name to address.
	Hosts map[string]string `json:"hosts,omitempty"`
}

// Mount is a file system that is mounted over the root before the
// application starts. Missing targets are made.
type Mount struct {
	// Type is "9p" (Source is the mount tag), "virtiofs" (the same),
	// "ext4" (Source is a device, as in Root) or "tmpfs".
	Type   string `json:"type"`
	Source string `json:"source,omitempty"`
	Target string `json:"target"`
	// File mounts only this one file of a 9p or virtiofs share onto Target.
	File     string `json:"file,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
	// Wait is for how many seconds a device is waited for that is attached to
	// the machine while it starts; 0: it is there.
	Wait int `json:"wait,omitempty"`
}
