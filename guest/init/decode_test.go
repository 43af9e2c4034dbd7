//go:build linux

package main

import (
	"encoding/json"
	"reflect"
	"testing"

	"capstan/guest/api"
)

// full has every field of a config set: a field that is added and forgotten
// here or in decodeConfig fails the test.
func full(t *testing.T) api.Config {
	t.Helper()
	var cfg api.Config
	fill(t, reflect.ValueOf(&cfg).Elem())
	return cfg
}

func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.String:
		v.SetString("a <b> & \"c\"\n\t\\ ü")
	case reflect.Int, reflect.Int64:
		v.SetInt(1_234_567_890_123)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"k<1>": "v", "": "empty"}))
	default:
		t.Fatalf("a config has a %s", v.Type())
	}
}

func TestDecodeConfig(t *testing.T) {
	want := full(t)
	doc, err := json.MarshalIndent(want, " ", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := decodeConfig(doc); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("%v: %+v", ok, got)
	}
	for _, doc := range []string{
		"", "{", "null", "[]", `{"version":1} x`, `{"version":01}`, `{"version":1.5}`, `{"version":1e3}`, `{"version":"1"}`, `{"version":-}`, `{"version":1,}`,
		`{"version":1,"version":1}`, `{"Version":1}`, `{"args":null}`, `{"args":["\u20ac"]}`, "{\"args\":[\"\xff\"]}", `{"args":["\x"]}`, `{"args":["a" "b"]}`, `{"tty":truex}`,
		`{"user":"a` + "\n" + `"}`, `{"version":99999999999999999999}`, `{"root":{"x":1}}`, `{"network":{"none":1}}`, `{"mounts":[{"type"}]}`,
	} {
		if got, ok := decodeConfig([]byte(doc)); ok {
			t.Errorf("%s was taken for %+v", doc, got)
		}
	}
}

// Whatever decodeConfig accepts it reads as encoding/json does.
func FuzzDecodeConfig(f *testing.F) {
	f.Add([]byte(`{"version":1,"args":["a","\u003c"],"root":{"lower":[]},"network":{"hosts":{"a":"b"}},"mounts":[{"type":"9p","read_only":true}],"time":-5}`))
	f.Add([]byte(` { "tty" : true , "sysctls" : { } } `))
	f.Fuzz(func(t *testing.T, doc []byte) {
		got, ok := decodeConfig(doc)
		if !ok {
			return
		}
		var want api.Config
		if err := json.Unmarshal(doc, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, not %+v, %v", doc, got, want, err)
		}
	})
}

// Whatever lies in the config's partition is read to its end, and what is
// accepted can be started.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("{\"version\":1,\"args\":[\"a\"],\"root\":{\"lower\":[\"x\"]},\"stop_signal\":\"SIGRTMIN+3\"}\x00\x00"))
	f.Add([]byte(`{"Version":1,"args":["\u20ac"],"root":{"lower":["serial:r"]},"sysctls":{"a.b":"c"},"rows":-1}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		cfg, err := parseConfig(doc)
		if err != nil {
			return
		}
		if cfg.Version != api.Version || len(cfg.Args) == 0 || cfg.Args[0] == "" || len(cfg.Root.Lower) == 0 {
			t.Errorf("%q was accepted as %+v", doc, cfg)
		}
		environment(cfg.Env, "", cfg.Hostname, cfg.TTY)
		hostsFile(cfg.Hostname, "127.0.0.1", cfg.Network.Hosts)
		resolvFile(cfg.Network.Nameservers, cfg.Network.Search)
		_, _ = staticAddress(cfg.Network.Address, cfg.Network.Gateway)
	})
}
