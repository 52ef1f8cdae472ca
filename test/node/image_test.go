// SPDX-License-Identifier: Apache-2.0

package node

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	goruntime "runtime"
)

// The two images have the same layer. The process of a sandbox is called pause
// everywhere, and is recognized by that.
const (
	hogImage   = "docker.io/local/hog:1"
	pauseImage = "docker.io/local/pause:1"
)

// writeImages writes an OCI image layout as a tar. The one layer has one file, by
// two names.
func writeImages(file, binary string) error {
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}

	var layer bytes.Buffer
	if err := writeTar(&layer, []entry{
		{name: "hog", mode: 0o755, content: program}, {name: "pause", mode: 0o755, link: "hog"},
	}); err != nil {
		return err
	}
	descriptor := func(mediaType string, content []byte) map[string]any {
		return map[string]any{"mediaType": mediaType, "digest": digest(content), "size": len(content)}
	}
	blobs := [][]byte{layer.Bytes()}
	var manifests []any

	for name, program := range map[string]string{hogImage: "/hog", pauseImage: "/pause"} {
		config := encode(map[string]any{
			"architecture": goruntime.GOARCH, "os": "linux",
			"config": map[string]any{"Entrypoint": []string{program}},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer.Bytes())}},
		})
		manifest := encode(map[string]any{
			"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
			"config": descriptor("application/vnd.oci.image.config.v1+json", config),
			"layers": []any{descriptor("application/vnd.oci.image.layer.v1.tar", layer.Bytes())},
		})
		top := descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
		top["annotations"] = map[string]string{"io.containerd.image.name": name}

		blobs, manifests = append(blobs, config, manifest), append(manifests, top)
	}
	index := encode(map[string]any{"schemaVersion": 2, "manifests": manifests})

	entries := []entry{
		{name: "oci-layout", mode: 0o644, content: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{name: "index.json", mode: 0o644, content: index},
	}
	for _, blob := range blobs {
		entries = append(entries, entry{name: fmt.Sprintf("blobs/sha256/%x", sha256.Sum256(blob)), mode: 0o644, content: blob})
	}

	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()

	if err := writeTar(out, entries); err != nil {
		return err
	}

	return out.Close()
}

type entry struct {
	name    string
	mode    int64
	content []byte
	link    string // it is another name of this one
}

func writeTar(w interface{ Write([]byte) (int, error) }, entries []entry) error {
	t := tar.NewWriter(w)

	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		if e.link != "" {
			header.Typeflag, header.Linkname = tar.TypeLink, e.link
		}

		if err := t.WriteHeader(header); err != nil {
			return err
		}

		if _, err := t.Write(e.content); err != nil {
			return err
		}
	}

	return t.Close()
}

func digest(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps and strings
	}

	return text
}
