package inventory

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// largeInput is a network of n hosts, each of which sees 120 variables besides.
func largeInput(t testing.TB, n int) Input {
	t.Helper()
	var others []string
	for i := 0; i < 120; i++ {
		others = append(others, fmt.Sprintf("some_variable_of_a_role_%d", i))
	}
	var inventory, extra strings.Builder
	inventory.WriteString("all:\n  hosts:\n")
	extra.WriteString("extra_hosts:\n")
	keys := &PublicKeys{Hosts: map[string]HostKey{}}
	hosts := make([]vars, n)
	for i := range hosts {
		name := fmt.Sprintf("198.18.%d.%d", i/250, i%250+1)
		hostname := fmt.Sprintf("host%d.example.com", i)
		hosts[i] = vars{"name": name, "other_vars": others, "vars": vars{"host_id": i + 1, "hostname": hostname, "publish": []any{443, "udp/53"}}}
		fmt.Fprintf(&inventory, "    %s:\n      host_id: %d\n      hostname: %s\n      publish: [443, udp/53]\n", name, i+1, hostname)
		fmt.Fprintf(&extra, "  10.31.%d.%d: extra%d.example.com\n", 100+i/250, i%250+1, i)
		keys.Hosts[name] = HostKey{HostID: uint16(i + 1), PublicKey: testKey(i + 1), UnderlayMTU: 1500}
	}
	dir := t.TempDir()
	return Input{
		Resolved:       resolvedHosts(hosts...),
		Sources:        []string{write(t, dir, "hosts.yml", inventory.String())},
		ExtraHostsFile: write(t, dir, "extra_hosts.yml", extra.String()),
		KeyFiles:       KeyFiles{write(t, dir, "keys.yml", string(keys.EncodeKeys())), write(t, dir, "state.yml", string(keys.EncodeState()))},
		Now:            testTime,
	}
}

// BenchmarkCompile3000 is to stay below one second and 200 MB.
func BenchmarkCompile3000(b *testing.B) {
	in := largeInput(b, 3000)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		mustCompile(b, in).Document.Encode()
	}
}

// BenchmarkCompile3000Broken is the same with something wrong on every host.
func BenchmarkCompile3000Broken(b *testing.B) {
	in := largeInput(b, 3000)
	in.Resolved = []byte(strings.ReplaceAll(string(in.Resolved), `"some_variable_of_a_role_7"`, `"host_ip"`))
	in.Resolved = []byte(strings.ReplaceAll(string(in.Resolved), `"host_id":`, `"host_id":-`))
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		if _, err := Compile(context.Background(), in); err == nil || len(err.Error()) == 0 {
			b.Fatal("no error")
		}
	}
}

// TestCompile3000Memory bounds all that one Compile allocates, freed or not,
// which no peak can exceed.
func TestCompile3000Memory(t *testing.T) {
	in := largeInput(t, 3000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out := mustCompile(t, in)
	runtime.ReadMemStats(&after)
	const limit = 200 << 20
	if got := after.TotalAlloc - before.TotalAlloc; got > limit {
		t.Errorf("allocated %d MiB for %d hosts, wanted at most %d", got>>20, len(out.Document.Hosts), limit>>20)
	}
}
