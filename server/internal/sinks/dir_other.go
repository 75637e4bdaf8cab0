//go:build !unix

package sinks

// syncDir does nothing: folders cannot be synced here.
func syncDir(string) error { return nil }
