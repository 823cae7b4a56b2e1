package network

import (
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
)

// SharedSecret derives what two hosts share and nobody else has from what
// WireGuard already needs: one block of HKDF-SHA256 (RFC 5869, no salt) of the
// X25519 (RFC 7748) of own private and peer's public key. Each label gives
// another secret. It costs some 100 µs.
func SharedSecret(private, public Key, label string) ([sha256.Size]byte, error) {
	var secret [sha256.Size]byte
	own, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		return secret, errors.New("the private key is none")
	}
	peer, err := ecdh.X25519().NewPublicKey(public[:])
	if err != nil {
		return secret, errors.New("the public key is none")
	}
	shared, err := own.ECDH(peer)
	if err != nil { // a point of low order
		return secret, fmt.Errorf("public key %s: %w", public, err)
	}
	extracted := authenticate(make([]byte, sha256.Size), shared)
	return [sha256.Size]byte(authenticate(extracted, []byte(label+"\x01"))), nil
}

func authenticate(key, message []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	return mac.Sum(nil)
}
