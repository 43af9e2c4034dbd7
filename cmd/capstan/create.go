package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"capstan/guest/api"
	"capstan/internal/capstanfile"
	"capstan/internal/hypervisor"
	"capstan/internal/image"
	"capstan/internal/image/disk/compose"
	"capstan/internal/image/disk/export"
	"capstan/internal/image/ext4"
	"capstan/internal/instance"
	"capstan/internal/repo"
)

// Serial numbers of an instance's disks, and the files in its directory.
const (
	rootSerial, rootFile   = "root", "root.erofs"
	upperSerial, upperFile = "upper", "upper.ext4"
	bootableFile           = "disk." // and its format

	// upperSize is nominal: the file takes what the application writes.
	upperSize = 100 << 30

	// minMemory is less than any guest boots in.
	minMemory = 40 << 20
)

// What hosts and users may be called: RFC 1123, section 2.1, in the length
// that Linux has for it (uts_namespace(7)); user[:group].
var (
	validHostname = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,62}[a-zA-Z0-9])?$`)
	validUser     = regexp.MustCompile(`^[^\s:]+(:[^\s:]+)?$`)
)

// create makes an instance of an image, without starting it; with --dry-run
// none. The image is pulled where it must be, after mistakes in flags came to
// light.
func (a *app) create(ctx context.Context, cmd *cobra.Command, f *runFlags, ref string, args []string) (*instance.Instance, error) {
	plain, err := a.configureAny(cmd, f, ref)
	if err != nil {
		return nil, err
	}
	if _, n := publishFlag(args); len(f.cloud.allow) > 0 && len(f.ports) == 0 && n == 0 {
		return nil, usage(cmd, &hinted{errors.New("--allow opens the ports of -p, and there are none"), "-p PORT"})
	}
	if err := a.reachable(plain.Platform, f.dryRun); err != nil {
		return nil, err
	}
	store, img, entry, err := a.fetch(ctx, cmd, ref, f.pull)
	if err != nil {
		return nil, err
	}
	if entry.Disk != "" {
		return a.createSystem(cmd, f, store, img, entry, ref, args)
	}
	said, err := image.ReadConfig(img)
	if err != nil {
		return nil, err
	}
	if said.Arch != "" && said.Arch != guestArch {
		return nil, fmt.Errorf("%s is an image for %s, and the guest is for %s", ref, said.Arch, guestArch)
	}
	if said.Memory == 0 && f.memory == "" {
		said.Memory = a.usualMemory(entry)
	}
	ports, args := takePorts(cmd, said, args)
	f.ports = append(f.ports, ports...)
	cfg, links, err := a.configure(cmd, f, ref, said, args)
	if err != nil {
		return nil, err
	}
	cfg.Digest, cfg.Created = entry.Digest.String(), time.Now()
	if a.isAway(cfg) {
		return a.createAway(ctx, cmd, f, store, img, entry, cfg)
	}
	progress := newBriefProgress(cmd)
	defer progress.close()
	img = image.Watched(img, progress)
	return a.instances().Create(cfg, func(dir string) error {
		if err := linkShares(dir, links); err != nil {
			return err
		}
		if cfg.Machine.Bootable != "" {
			return a.fillBootable(ctx, dir, store, img, cfg)
		}
		return fill(ctx, dir, store, img, entry.Digest, cfg.Machine.Guest.Root.Upper != "")
	})
}

// fill puts an instance's disks into its directory.
func fill(ctx context.Context, dir string, store *repo.Store, img v1.Image, digest v1.Hash, upper bool) error {
	if err := image.Root(ctx, store, img, digest, filepath.Join(dir, rootFile)); err != nil {
		return err
	}
	if !upper {
		return nil
	}
	disk, err := os.OpenFile(filepath.Join(dir, upperFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(disk.Truncate(upperSize), ext4.Format(disk, ext4.Options{Size: upperSize, Label: "capstan-upper"}), disk.Close())
	if err != nil {
		return fmt.Errorf("making the writable disk: %w", err)
	}
	return nil
}

// fillBootable puts a disk that boots by itself into an instance's directory.
func (a *app) fillBootable(ctx context.Context, dir string, store *repo.Store, img v1.Image, cfg instance.Config) error {
	digest, err := v1.NewHash(cfg.Digest)
	if err != nil {
		return err
	}
	d, err := a.guestDisk(cfg.Machine.Guest, cfg.ID)
	if err != nil {
		return err
	}
	root, err := image.OpenRoot(ctx, store, img, digest)
	if err != nil {
		return err
	}
	defer root.Close()
	b, err := placed(d, root)
	if err != nil {
		return err
	}
	name := cfg.Machine.Bootable
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = export.Write(ctx, file, export.Format(strings.TrimPrefix(name, bootableFile)), b.named(name))
	return errors.Join(err, file.Close())
}

// configureAny turns the flags that go with any image into an instance's
// config.
func (a *app) configureAny(cmd *cobra.Command, f *runFlags, ref string) (instance.Config, error) {
	bad := func(err error) (instance.Config, error) { return instance.Config{}, usage(cmd, err) }
	platform, err := a.platform(f.on)
	if err != nil {
		return bad(err)
	}
	if err := f.forCloud(cmd, platform); err != nil {
		return bad(err)
	}
	id := instance.NewID()
	cfg := instance.Config{ID: id, Name: f.name, Image: ref, Platform: platform.Name(), Remove: f.remove}
	if cfg.Name == "" {
		cfg.Name = defaultName(ref, id)
	}
	if err := instance.CheckName(cfg.Name); err != nil {
		return bad(err)
	}
	if cfg.Restart, err = parseRestart(f.restart); err != nil {
		return bad(err)
	}
	if f.remove && cfg.Restart.Policy != "" {
		return bad(errors.New("--rm and --restart contradict each other"))
	}
	if err := f.checkReplicas(cmd.Flags().Changed("replicas")); err != nil {
		return bad(err)
	}
	if f.dryRun {
		if _, err := a.rehearser(platform.Name()); err != nil {
			return bad(err)
		}
	}
	cfg.Replicas = f.replicas
	if cfg.Labels, err = parseLabels(f.labels); err != nil {
		return bad(err)
	}
	m := &cfg.Machine
	if m.Ports, err = parsePorts(f.ports); err != nil {
		return bad(err)
	}
	if m.Guest.Network.None, m.Bridge, err = parseNetwork(f.network); err != nil {
		return bad(err)
	}
	if len(m.Ports) > 0 && (m.Guest.Network.None || m.Bridge != "") {
		return bad(fmt.Errorf("--network %s: there are no ports of this host to forward with -p", f.network))
	}
	if f.cpus < 1 && cmd.Flags().Changed("cpus") {
		return bad(fmt.Errorf("-c %d: a machine needs a CPU", f.cpus))
	}
	if f.stopTimeout < 0 {
		return bad(fmt.Errorf("--stop-timeout %d: it is a number of seconds", f.stopTimeout))
	}
	m.Accel, m.Verbose = f.accel, f.verbose
	if f.accel == "" && len(platform.Capabilities().Accels) > 0 {
		m.Accel = a.settings.Accel
	}
	if err := a.checkEarly(f, platform, cfg); err != nil {
		return bad(err)
	}
	return cfg, nil
}

// checkEarly looks for mistakes in flags that no image can mend, and for what
// the platform cannot do whatever the image is. The environment's files, which
// may be pipes, are read later.
func (a *app) checkEarly(f *runFlags, p hypervisor.Platform, cfg instance.Config) (err error) {
	m := &cfg.Machine
	m.Memory, m.CPUs = p.Capabilities().Memory, f.cpus
	if f.memory != "" {
		if m.Memory, err = a.memory(f, image.Config{}); err != nil {
			return err
		}
	}
	if f.hostname != "" && !validHostname.MatchString(f.hostname) {
		return fmt.Errorf("--hostname %q: expected letters, digits, hyphens and dots, 64 at most", f.hostname)
	}
	given := *f
	given.envFiles = nil
	network := m.Guest.Network
	if m.Guest, err = guestConfig(&given, image.Config{}, nil); err != nil {
		return err
	}
	m.Guest.Network = network
	return a.refuse(cfg)
}

// configure turns an image's wishes and the flags into an instance's config.
func (a *app) configure(cmd *cobra.Command, f *runFlags, ref string, said image.Config, args []string) (instance.Config, []link, error) {
	bad := func(err error) (instance.Config, []link, error) { return instance.Config{}, nil, usage(cmd, err) }
	cfg, err := a.configureAny(cmd, f, ref)
	if err != nil {
		return cfg, nil, err
	}
	if flag := f.forSystems(); flag != "" {
		return bad(&hinted{fmt.Errorf("--%s is for disk images, and %s is none", flag, ref), systemFlags[flag]})
	}
	m := &cfg.Machine
	shared, err := parseShares(f.shares)
	if err != nil {
		return bad(err)
	}
	if m.Memory, err = a.memory(f, said); err != nil {
		return bad(err)
	}
	m.CPUs = firstOf(f.cpus, said.CPUs, a.settings.CPUs)
	network := m.Guest.Network
	m.Guest, err = guestConfig(f, said, args)
	if err != nil {
		return bad(err)
	}
	m.Guest.Network = network
	if len(m.Guest.Args) == 0 {
		return bad(fmt.Errorf("%s says no command: give one after the image's name", ref))
	}
	m.Guest.Hostname = firstOf(f.hostname, cfg.Name)
	m.Guest.Mounts, m.Shares = shared.mounts, shared.shares
	if err := a.attach(&cfg, !f.remove && !f.readOnly, f.memory != ""); err != nil {
		return bad(err)
	}
	if err := a.refuse(cfg); err != nil {
		return bad(err)
	}
	return cfg, shared.links, nil
}

// attach gives an instance its disks: one each for the root and for what is
// written, or one that boots by itself and holds both where the platform needs
// that. asked says that the instance's memory is what somebody asked for.
func (a *app) attach(cfg *instance.Config, writable, asked bool) error {
	p, err := platformOf(a.settings, cfg.Platform)
	if err != nil {
		return err
	}
	can, m := p.Capabilities(), &cfg.Machine
	if !asked { // what an image or a setting says may be too little here
		m.Memory = max(m.Memory, can.Memory)
	}
	if can.Disk != "" {
		m.Guest.Console, m.Guest.Control = can.Console, can.Control
		if !can.Away { // else it is kept there
			m.Bootable = bootableFile + string(can.Disk)
		}
		root := compose.Root()
		if m.Guest.Root.Lower = root.Lower; writable {
			m.Guest.Root.Upper = root.Upper
		}
		return nil
	}
	m.Guest.Root.Lower = []string{"serial:" + rootSerial}
	m.Disks = []hypervisor.Disk{{Path: rootFile, Serial: rootSerial, ReadOnly: true}}
	if writable {
		m.Disks = append(m.Disks, hypervisor.Disk{Path: upperFile, Serial: upperSerial})
		m.Guest.Root.Upper = "serial:" + upperSerial
	}
	return nil
}

func guestConfig(f *runFlags, said image.Config, args []string) (api.Config, error) {
	env, err := environment(f.env, f.envFiles)
	if err != nil {
		return api.Config{}, err
	}
	workdir := firstOf(f.workdir, said.Workdir)
	if workdir != "" && !path.IsAbs(workdir) {
		return api.Config{}, fmt.Errorf("-w %s: the working directory must be an absolute path", workdir)
	}
	if f.user != "" && !validUser.MatchString(f.user) {
		return api.Config{}, fmt.Errorf("-u %q: expected user or user:group, as names or numbers", f.user)
	}
	return api.Config{
		Version: api.Version, Args: said.Command(f.entrypoint, args), Env: slices.Concat(said.Env, env),
		Workdir: workdir, User: firstOf(f.user, said.User),
		TTY: f.tty, Stdin: f.stdin, StopSignal: said.StopSignal, StopTimeout: f.stopTimeout,
		Root:    api.Root{ReadOnly: f.readOnly},
		Verbose: f.verbose,
	}, nil
}

// usualMemory is what the alias table says of an image that says nothing itself,
// where that is more than machines get anyway; else 0. A mistake in the table
// is for who needs it to find an image.
func (a *app) usualMemory(e repo.Entry) int64 {
	n := e.Name
	if e.Origin != nil {
		n = e.Origin.Name // what it is, whatever it is called here
	}
	sources, err := a.sources()
	if m := sources.Aliases.Memory(n); err == nil && m > a.settings.Memory {
		return m
	}
	return 0
}

// usual is how much memory a machine gets where no flag says it, and who says so.
func (a *app) usual(said image.Config) (bytes int64, who string) {
	if said.Memory > 0 {
		return said.Memory, "the image"
	}
	return a.settings.Memory, "the setting memory"
}

func tooLittle(who string, bytes int64) error {
	return fmt.Errorf("%s says %s of memory, and a guest needs %s at least", who, size(bytes), size(minMemory))
}

func (a *app) memory(f *runFlags, said image.Config) (int64, error) {
	if f.memory == "" {
		m, who := a.usual(said)
		if m < minMemory {
			return 0, &hinted{tooLittle(who, m), "-m " + size(minMemory)}
		}
		return m, nil
	}
	m, err := capstanfile.ParseMemory(f.memory)
	if err != nil {
		return 0, &hinted{fmt.Errorf("-m %s: expected a size with its unit, up to what this host has", f.memory), "such as -m 512M or -m 1G"}
	}
	if m < minMemory {
		return 0, &hinted{fmt.Errorf("-m %s: a guest needs %s at least", f.memory, size(minMemory)), "-m " + size(minMemory)}
	}
	return m, nil
}

// firstOf is the first of its arguments that is set.
func firstOf[T comparable](values ...T) T {
	var zero T
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}

// defaultName is the image's last word and four digits of the ID.
func defaultName(ref, id string) string {
	base := "vm"
	if name, err := repo.ParseName(ref); err == nil && name.Name != "" {
		base = name.Name
	}
	return base[:min(len(base), 40)] + "-" + id[:4]
}
