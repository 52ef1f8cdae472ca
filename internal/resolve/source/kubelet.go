// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// KubeletOptions configure the feed of the kubelet's list of pods, which needs
// permission for nodes/proxy (newer: nodes/pods).
type KubeletOptions struct {
	Endpoint  string // such as https://127.0.0.1:10250; empty: do not ask
	TokenFile string // a file with the bearer token, read for each request
	CAFile    string // the authority that signed the kubelet's certificate; empty: the system's authorities
	// Insecure accepts any certificate.
	Insecure bool
}

const (
	// maxPodList bounds the kubelet's answer in bytes; a pod takes some 10 KiB.
	maxPodList = 64 << 20
	// kubeletEvery is the shortest time between two requests.
	kubeletEvery   = 5 * time.Second
	kubeletTimeout = 10 * time.Second
)

// Kubelet is the feed of the kubelet's list of pods.
type Kubelet struct {
	store     Store
	warn      func(key, text string)
	wanted    chan resolve.Ref
	url       string
	tokenFile string
	client    *http.Client
}

// NewKubelet returns the feed of a kubelet. It fails where an option is wrong; warn is
// called where the kubelet does not answer.
func NewKubelet(o KubeletOptions, store Store, warn func(key, text string)) (*Kubelet, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("kubelet endpoint %q: it must look like https://127.0.0.1:10250", o.Endpoint)
	}

	if u.Scheme == "http" && o.TokenFile != "" {
		return nil, fmt.Errorf("kubelet endpoint %q: a token is not sent without TLS", o.Endpoint)
	}

	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.Insecure}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the kubelet's CA: %w", err)
		}

		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the kubelet's CA %s has no PEM certificate", o.CAFile)
		}
	}

	return &Kubelet{
		store: store, warn: warn, wanted: make(chan resolve.Ref, queued),
		url: strings.TrimSuffix(o.Endpoint, "/") + "/pods", tokenFile: o.TokenFile,
		// The token is for the kubelet alone: redirects are not followed.
		client: &http.Client{
			Timeout: kubeletTimeout, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// podList has what is needed of a v1.PodList.
type podList struct {
	Items []struct {
		Metadata struct {
			Name, Namespace, UID string
			Labels, Annotations  map[string]string
		}
		Status struct {
			QOSClass                                                             string
			ContainerStatuses, InitContainerStatuses, EphemeralContainerStatuses []containerStatus
		}
	}
}

type containerStatus struct {
	Name, Image, ContainerID string
	RestartCount             uint32
}

// found is an answer about a container, or about a pod as a whole.
type found struct {
	ref resolve.Ref
	w   events.Workload
}

// pods requests the list.
func (k *Kubelet) pods(ctx context.Context) ([]found, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}

	if k.tokenFile != "" {
		token, err := os.ReadFile(k.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the token: %w", err)
		}

		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}

	response, err := k.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()

	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", k.url, response.Status)
	}
	var list podList

	body := &io.LimitedReader{R: response.Body, N: maxPodList}
	if err := json.NewDecoder(body).Decode(&list); err != nil {
		if body.N <= 0 {
			err = errors.New("the pod list is too long")
		}

		return nil, fmt.Errorf("GET %s: %w", k.url, err)
	}

	return list.found(), nil
}

func (l *podList) found() []found {
	var all []found

	for i := range l.Items {
		p := &l.Items[i]
		pod := events.Workload{
			Namespace: p.Metadata.Namespace, Pod: p.Metadata.Name, PodUID: p.Metadata.UID, Labels: p.Metadata.Labels,
			QoS: strings.ToLower(p.Status.QOSClass), Source: NameKubelet,
		}
		// The cgroup of a static pod is named by the hash of its configuration.
		if hash := p.Metadata.Annotations["kubernetes.io/config.hash"]; hash != "" &&
			p.Metadata.Annotations["kubernetes.io/config.source"] != "api" {
			pod.PodUID = hash
		}

		all = append(all, found{resolve.Ref{PodUID: pod.PodUID}, pod})

		for _, list := range [][]containerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses,
			p.Status.EphemeralContainerStatuses} {
			for _, c := range list {
				runtime, id, ok := strings.Cut(c.ContainerID, "://")
				if !ok || id == "" {
					continue
				}
				w := pod
				w.Container, w.Image, w.ContainerID, w.Runtime = c.Name, c.Image, id, runtime
				restarts := c.RestartCount
				w.RestartCount = &restarts
				all = append(all, found{resolve.Ref{ContainerID: id, PodUID: pod.PodUID}, w})
			}
		}
	}

	return all
}

// Name implements Feed.
func (*Kubelet) Name() string { return NameKubelet }

// Ask implements Feed.
func (k *Kubelet) Ask(ref resolve.Ref, _ int) bool {
	select {
	case k.wanted <- ref:
		return true
	default:
		return false
	}
}

// Run implements Feed: it requests the whole list when an id is asked for, at most
// every kubeletEvery.
func (k *Kubelet) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ref := <-k.wanted:
			if Rank(k.store.SourceOf(ref)) >= Rank(NameKubelet) {
				continue
			}
		}

		all, err := k.pods(ctx)
		if err != nil {
			k.warn("kubelet", fmt.Sprintf("cannot read the kubelet's pod list, names come from other sources: %v", err))
		}

		for _, f := range all {
			k.store.Put(f.ref, f.w)
		}

		for len(k.wanted) > 0 { // the list had them, or they will be asked for again
			<-k.wanted
		}

		select {
		case <-ctx.Done():
			return
		case <-time.After(kubeletEvery):
		}
	}
}
