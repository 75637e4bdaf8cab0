package tollgate_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// benchmarkVerify verifies n tokens in turn.
func benchmarkVerify(b *testing.B, n int) {
	n = min(n, b.N)
	server := sdktest.NewServer()
	defer server.Close()
	server.SetUser(sdktest.User{Name: "alice"})
	verifier := server.Verifier(tollgate.VerifierConfig{})
	defer verifier.Close()
	must(b, verifier.Wait(b.Context(), 0))
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = server.Token("alice")
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if v, err := verifier.Verify(b.Context(), tokens[i%n]); err != nil || !v.Active {
			b.Fatalf("%+v, error %v", v, err)
		}
	}
	b.StopTimer()
	if asked := server.Calls("AuthService/Verify"); asked > 0 {
		b.Fatalf("Tollgate was asked %d times", asked)
	}
}

// BenchmarkVerifyLocalCold verifies tokens that are not cached any more.
func BenchmarkVerifyLocalCold(b *testing.B) { benchmarkVerify(b, 60_000) }

func BenchmarkVerifyLocalCached(b *testing.B) { benchmarkVerify(b, 1) }

// BenchmarkVerifyEd25519 verifies a signature and nothing else.
func BenchmarkVerifyEd25519(b *testing.B) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(b, err)
	message := []byte(strings.Repeat("a", 400))
	signature := ed25519.Sign(private, message)
	b.ReportAllocs()
	for b.Loop() {
		if !ed25519.Verify(public, message, signature) {
			b.Fatal("bad")
		}
	}
}
