package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"capstan/guest/api"
	"capstan/internal/image/disk"
	"capstan/internal/image/disk/compose"
	"capstan/internal/image/disk/xen"
	"capstan/internal/image/opaque"
	"capstan/internal/image/osv"
	"capstan/internal/repo"
)

// infoView is a disk or an image as info shows it. docs/disks.md documents
// its fields.
type infoView struct {
	Name       string          `json:"name"`
	Kind       string          `json:"kind"` // "disk" or "image"; "" is neither
	Summary    string          `json:"summary"`
	Format     disk.Format     `json:"format,omitempty"`
	Size       int64           `json:"size,omitempty"`
	Firmware   string          `json:"firmware,omitempty"` // "uefi" or "bios"
	OSv        *osvView        `json:"osv,omitempty"`
	Table      string          `json:"table,omitempty"` // "gpt" or "mbr"
	Damaged    bool            `json:"damaged,omitempty"`
	Partitions []partitionView `json:"partitions,omitempty"`
	Capstan    *capstanView    `json:"capstan,omitempty"`
}

// osvView is what a disk of OSv's holds.
type osvView struct {
	Kind    string `json:"kind"`            // of its file system: "ROFS", "ZFS", ...
	Files   int    `json:"files,omitempty"` // where that can be read
	Cmdline string `json:"cmdline"`
}

type partitionView struct {
	Number int    `json:"number"`
	Name   string `json:"name,omitempty"`
	Type   string `json:"type"`
	Start  int64  `json:"start"`
	Size   int64  `json:"size"`
}

// capstanView is what a disk of ours holds. Variables are not shown: they may
// be secrets.
type capstanView struct {
	Image   api.Image `json:"image,omitzero"`
	Command []string  `json:"command,omitempty"`
	Workdir string    `json:"workdir,omitempty"`
	User    string    `json:"user,omitempty"`
	Kernel  string    `json:"kernel,omitempty"`
	Root    int64     `json:"root,omitempty"`
	Data    int64     `json:"data,omitempty"`
	Free    int64     `json:"free,omitempty"`
	Odd     []string  `json:"odd,omitempty"`
}

func newInfo(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "info [flags] FILE|IMAGE...",
		Short: "Say what a disk or an image is",
		Long: "Say what a disk or an image is: a disk's format and size, the firmware that boots it,\n" +
			"its partitions, and what OSv's loader, or a guest of capstan's, is told on it.\n" +
			"docs/disks.md documents what --format json shows.",
		Example:           "  capstan info ./legacy.qcow2\n  capstan info redis\n  capstan info --format json redis.vmdk",
		Args:              atLeast(1, "a file or an image"),
		ValidArgsFunction: a.completeRun,
	}
	format := cmd.Flags().String("format", "text", "text, json, or a Go template for each, such as '{{.Format}}'")
	takesOneOf(cmd, "format", "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		views := []infoView{}
		err := each(args, func(name string) error {
			v, err := a.info(cmd.Context(), name)
			if err != nil {
				return err
			}
			if *format == "text" {
				return v.print(cmd.OutOrStdout())
			}
			views = append(views, v)
			return nil
		})
		switch {
		case err != nil || *format == "text":
			return err
		case *format == "json":
			return printJSON(cmd.OutOrStdout(), views)
		}
		return printTemplate(cmd, *format, views)
	}
	return cmd
}

// info describes a file, else an image of the store.
func (a *app) info(ctx context.Context, name string) (infoView, error) {
	v := infoView{Name: name}
	f, err := os.Open(name)
	if err == nil {
		defer f.Close()
		return v, v.file(f)
	}
	if isPath(name) || !errors.Is(err, fs.ErrNotExist) {
		return v, &hinted{err, "the path of a disk, or the name of an image"}
	}
	store, err := a.store()
	if err != nil {
		return v, err
	}
	ref, err := a.stored(ctx, store, name)
	if err != nil {
		return v, err
	}
	img, entry, err := store.Image(ctx, ref)
	var odd *repo.NameError
	if errors.Is(err, repo.ErrNotFound) || errors.As(err, &odd) {
		return v, &hinted{fmt.Errorf("%s: no such file or image", name), "capstan images lists the images"}
	}
	if err != nil {
		return v, err
	}
	if v.Kind, v.Size = "image", entry.Size; entry.Disk == "" {
		v.Summary = fmt.Sprintf("image for %s/%s, %s", entry.OS, entry.Architecture, size(entry.Size))
		return v, nil
	}
	config, _, err := opaque.Read(img)
	if err != nil {
		return v, err
	}
	v.Format, v.Size, v.Firmware, v.Summary = config.Format, config.Size, config.Firmware, describeDisk(config)
	if config.OSv {
		base, done, err := a.openOSv(ctx, store, entry.Digest.String())
		if err != nil {
			return v, err
		}
		defer done()
		v.osv(base)
	}
	return v, nil
}

// file describes a disk; what is none, or is refused, is said in a word as old
// Capstan did.
func (v *infoView) file(f *os.File) error {
	v.Summary = "not a runnable image"
	stat, err := f.Stat()
	if err == nil && stat.IsDir() {
		return v.folder(f.Name())
	}
	if err != nil || !stat.Mode().IsRegular() {
		return err
	}
	if archived := disk.InTarGz(f, stat.Size()); archived > 0 {
		v.Kind, v.Format, v.Size = "disk", disk.Raw, archived
		v.Summary = fmt.Sprintf("disk.raw of %s in a tar.gz, for Compute Engine", size(archived))
		return nil
	}
	inside, err := disk.InOVA(f, stat.Size())
	switch {
	case err == nil && inside != nil:
		err = v.disk(inside, inside.Size())
		v.Summary = "OVA, " + v.Summary
	case err == nil:
		err = v.disk(f, stat.Size())
	}
	var refused *disk.Error
	if errors.As(err, &refused) {
		*v = infoView{Name: v.Name, Summary: "not a runnable image: " + refused.Reason}
		return nil
	}
	return err
}

// folder describes the disk in a folder of export --format xen.
func (v *infoView) folder(dir string) error {
	if ours, err := xen.Owns(dir); err != nil || !ours {
		return err
	}
	f, err := os.Open(filepath.Join(dir, xen.Disk))
	if err != nil {
		return err
	}
	defer f.Close()
	err = v.file(f)
	v.Summary = "for Xen's xl, " + v.Summary
	return err
}

func (v *infoView) disk(f io.ReaderAt, bytes int64) error {
	d, err := disk.Open(f, bytes)
	if err != nil {
		return err
	}
	boot, err := d.ReadBoot()
	if err != nil || boot.Firmware() == "" {
		return err
	}
	v.Kind, v.Format, v.Size, v.Firmware = "disk", d.Format, d.Size, boot.Firmware()
	if d.Kind != "" && d.Format == disk.Raw {
		v.Format = disk.VHD
	}
	v.Summary = fmt.Sprintf("%s, disk of %s, boots by %s", strings.TrimSpace(strings.ToUpper(string(v.Format))+" "+d.Kind), size(d.Size), strings.ToUpper(boot.Firmware()))
	if boot.OSv {
		base, err := osv.Examine(d)
		if err != nil {
			v.Summary += fmt.Sprintf(", OSv: %v", err)
		} else {
			v.Summary += ", OSv"
			v.osv(base)
		}
	}
	table, err := d.ReadTable()
	if err != nil {
		return err
	}
	v.Table, v.Damaged = table.Kind, table.Damaged
	for _, e := range table.Entries {
		v.Partitions = append(v.Partitions, partitionView(e))
	}
	c, err := compose.Read(d, table.Entries)
	if errors.Is(err, compose.ErrOther) {
		return nil
	}
	v.Capstan = &capstanView{
		Image: c.Config.Image, Command: c.Config.Args, Workdir: c.Config.Workdir, User: c.Config.User,
		Kernel: c.Kernel, Root: c.Root, Data: c.Data, Free: c.Free,
	}
	for _, err := range c.Odd {
		v.Capstan.Odd = append(v.Capstan.Odd, err.Error())
	}
	return err
}

// osv adds what is on a disk of OSv's.
func (v *infoView) osv(b *osv.Base) {
	v.OSv = &osvView{Kind: fmt.Sprint(b.Kind), Cmdline: b.Line}
	v.Summary += ", " + v.OSv.Kind
	if b.Root != nil {
		for e := range b.Root.Entries() {
			if !e.Type.IsDir() {
				v.OSv.Files++
			}
		}
		v.Summary += " of " + count(v.OSv.Files, "file")
	}
	v.Summary += fmt.Sprintf(", command line %q", b.Line)
}

// count is a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// print writes the summary and below it what there is to say.
func (v infoView) print(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s\n", v.Name, v.Summary)
	line := func(what, value string) {
		if value != "" {
			fmt.Fprintf(&text, "  %-12s %s\n", what, value)
		}
	}
	if c := v.Capstan; c != nil {
		c.lines(line)
	}
	if v.Damaged {
		line("partitions", "the table is damaged")
	}
	for _, p := range v.Partitions {
		line(fmt.Sprintf("partition %d", p.Number), fmt.Sprintf("%-8s %s", size(p.Size), printable(firstOf(p.Name, p.Type))))
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (c *capstanView) lines(line func(what, value string)) {
	line("image", printable(c.Image.Name))
	line("digest", printable(c.Image.Digest))
	var words []string
	for _, word := range c.Command {
		words = append(words, shellWord(word))
	}
	line("command", strings.Join(words, " "))
	line("directory", printable(c.Workdir))
	line("user", printable(c.User))
	if c.Image.Memory > 0 {
		line("memory", size(c.Image.Memory))
	}
	if c.Image.CPUs > 0 {
		line("cpus", strconv.Itoa(c.Image.CPUs))
	}
	line("ports", printable(strings.Join(c.Image.Ports, " ")))
	if c.Kernel != "" {
		line("guest", "Linux "+printable(c.Kernel))
	}
	if c.Root > 0 {
		line("root", size(c.Root))
	}
	if c.Data > 0 {
		line("data", fmt.Sprintf("%s, %s free", size(c.Data), size(c.Free)))
	}
	for _, odd := range c.Odd {
		line("odd", printable(odd))
	}
}

// printable is a text as it is, or quoted where a terminal would not show it:
// it comes from a disk or a package that anybody can have made.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return strconv.Quote(s)
	}
	return s
}

func printables(all []string) []string {
	var shown []string
	for _, s := range all {
		shown = append(shown, printable(s))
	}
	return shown
}

// shellWord is a word of a command, in quotes where it needs any.
func shellWord(s string) string {
	if s == "" || strings.ContainsAny(s, " '\"\\$`*?;&|<>()") {
		return strconv.Quote(s)
	}
	return printable(s)
}
