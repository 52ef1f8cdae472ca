// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestReceiveReturnsWhatWasSent(t *testing.T) {
	sent := map[string]string{"text": strings.Repeat("long enough for several lines ", 100)}

	var console bytes.Buffer
	console.WriteString("[    0.000000] Linux\r\n" + MarkStart + "\r\n")

	if err := Send(&console, sent); err != nil {
		t.Fatal(err)
	}

	whole := strings.ReplaceAll(console.String(), "\n", "\r\n")

	var got map[string]string
	if err := Receive([]byte(whole), &got); err != nil {
		t.Fatal(err)
	}

	if got["text"] != sent["text"] {
		t.Errorf("got %q, want %q", got["text"], sent["text"])
	}
}

func TestReceiveReturnsTheErrorOfTheGuest(t *testing.T) {
	var console bytes.Buffer
	console.WriteString(MarkStart + "\n")

	if err := SendError(&console, errors.New("mount /dev/vda: no such device")); err != nil {
		t.Fatal(err)
	}

	const want = GuestError("mount /dev/vda: no such device")
	if err := Receive(console.Bytes(), new(any)); err != want {
		t.Errorf("got error %v, want %v", err, want)
	}

	if err := Failure(console.Bytes()); err != want {
		t.Errorf("got failure %v, want %v", err, want)
	}

	if err := Failure([]byte(MarkStart)); err != nil {
		t.Errorf("got failure %v of a guest that sent none", err)
	}
}

func TestReceiveReportsWhatIsMissing(t *testing.T) {
	for _, test := range []struct{ console, want string }{
		{"Linux", "the guest did not start"},
		{MarkStart + "\n" + MarkBegin + "\nH4sI", "the guest did not finish"},
		{MarkStart + "\n" + MarkBegin + "\n***\n" + MarkEnd, "decode the result"},
		{MarkStart + "\n" + MarkBegin + "\nAAAA\n" + MarkEnd, "unpack the result"},
	} {
		err := Receive([]byte(test.console), new(any))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("console %q: got error %v, want one with %q", test.console, err, test.want)
		}
	}
}
