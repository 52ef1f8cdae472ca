// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
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
