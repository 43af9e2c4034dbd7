package api

import "testing"

func TestBeginIsFoundInTheConsole(t *testing.T) {
	report := string(FormatBegin(Begin{Address: "10.0.2.15"}))
	for _, before := range []string{"", "the firmware's words\r\n\x1b[2J", "\ncapstan-begin"} {
		console := before + report + "first words" + report
		got, end, ok := ParseBegin([]byte(console))
		if !ok || got.Address != "10.0.2.15" || console[:end] != before+report {
			t.Errorf("after %q: %+v, %d, %v", before, got, end, ok)
		}
		if got, end, ok = LastBegin([]byte(console)); !ok || got.Address != "10.0.2.15" || end != len(console) {
			t.Errorf("the last after %q: %+v, %d, %v", before, got, end, ok)
		}
	}
	for _, console := range []string{"", "words", report[:len(report)-1], "\ncapstan-begin: nothing\n"} {
		if _, _, ok := ParseBegin([]byte(console)); ok {
			t.Errorf("%q: taken for a report", console)
		}
		if _, _, ok := LastBegin([]byte(console)); ok {
			t.Errorf("%q: taken for the last report", console)
		}
	}
}

// On a console of two starts, the second has begun once it says so.
func TestConsoleOfTwoStarts(t *testing.T) {
	first := "firmware" + string(FormatBegin(Begin{Address: "10.0.0.1", Boot: "a"})) + "one" + string(FormatExitOf("a", Exit{Status: 3}))
	second := string(FormatBegin(Begin{Address: "10.0.0.2", Boot: "b"})) + "two" + string(FormatExitOf("b", Exit{Status: 4}))
	b, end, ok := LastBegin([]byte(first + "firmware" + second))
	if !ok || b != (Begin{Address: "10.0.0.2", Boot: "b"}) {
		t.Fatalf("got %+v, %v", b, ok)
	}
	rest, e, ok := ParseExit([]byte(first + "firmware" + second)[end:])
	if !ok || e != (Exit{Status: 4}) || string(rest) != "two" {
		t.Errorf("got %q, %+v, %v", rest, e, ok)
	}
	if b, _, ok := LastBegin([]byte(first + "firmware")); !ok || b.Boot != "a" {
		t.Errorf("got %+v, %v", b, ok)
	}
	if _, _, ok := ParseExit([]byte(first + "firmware")); ok {
		t.Error("the first start's exit report was taken for the second's")
	}
}
