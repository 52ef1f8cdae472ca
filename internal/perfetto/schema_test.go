// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// schema has the messages that a trace consists of, with the names, numbers and types of their fields in
// protos/perfetto/trace. A * marks a repeated field.
var schema = map[string]string{
	"Trace": "1 packet TracePacket*",
	"TracePacket": "6 clock_snapshot ClockSnapshot, 8 timestamp uint64, 10 trusted_packet_sequence_id uint32, 11 track_event TrackEvent, " +
		"13 sequence_flags uint32, 58 timestamp_clock_id uint32, 60 track_descriptor TrackDescriptor",
	"ClockSnapshot": "1 clocks Clock*, 2 primary_trace_clock int32",
	"Clock":         "1 clock_id uint32, 2 timestamp uint64",
	"TrackDescriptor": "1 uuid uint64, 2 name string, 3 process ProcessDescriptor, 5 parent_uuid uint64, 8 counter CounterDescriptor, " +
		"11 child_ordering int32, 12 sibling_order_rank int32, 14 description string, 15 sibling_merge_behavior int32, 16 sibling_merge_key string",
	"ProcessDescriptor": "1 pid int32, 6 process_name string",
	"CounterDescriptor": "3 unit int32, 6 unit_name string, 7 y_axis_share_key string",
	"TrackEvent": "4 debug_annotations DebugAnnotation*, 9 type int32, 11 track_uuid uint64, 22 categories string*, 23 name string, " +
		"44 double_counter_value double",
	"DebugAnnotation": "2 bool_value bool, 3 uint_value uint64, 4 int_value int64, 6 string_value string, 10 name string, " +
		"11 dict_entries DebugAnnotation*, 12 array_values DebugAnnotation*",
}

var scalars = map[string]descriptorpb.FieldDescriptorProto_Type{
	"bool":   descriptorpb.FieldDescriptorProto_TYPE_BOOL,
	"double": descriptorpb.FieldDescriptorProto_TYPE_DOUBLE,
	"int32":  descriptorpb.FieldDescriptorProto_TYPE_INT32,
	"int64":  descriptorpb.FieldDescriptorProto_TYPE_INT64,
	"string": descriptorpb.FieldDescriptorProto_TYPE_STRING,
	"uint32": descriptorpb.FieldDescriptorProto_TYPE_UINT32,
	"uint64": descriptorpb.FieldDescriptorProto_TYPE_UINT64,
}

// traceType is the type of a whole trace. Its strings are checked to be UTF-8 when they are decoded.
func traceType(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()

	file := &descriptorpb.FileDescriptorProto{Name: proto.String("trace.proto"), Syntax: proto.String("proto3")}

	for name, fields := range schema {
		m := &descriptorpb.DescriptorProto{Name: proto.String(name)}

		for field := range strings.SplitSeq(fields, ", ") {
			var (
				number      int32
				label, kind string
			)

			if _, err := fmt.Sscan(field, &number, &label, &kind); err != nil {
				t.Fatalf("%s: %q: %v", name, field, err)
			}

			f := &descriptorpb.FieldDescriptorProto{
				Name: proto.String(label), Number: proto.Int32(number), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}
			if strings.HasSuffix(kind, "*") {
				f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			}

			if scalar, ok := scalars[strings.TrimSuffix(kind, "*")]; ok {
				f.Type = scalar.Enum()
			} else {
				f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String("."+strings.TrimSuffix(kind, "*"))
			}

			m.Field = append(m.Field, f)
		}

		file.MessageType = append(file.MessageType, m)
	}

	f, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}

	return f.Messages().ByName("Trace")
}

// decode returns the packets of a trace.
func decode(t testing.TB, trace []byte) []protoreflect.Message {
	t.Helper()

	m := dynamicpb.NewMessage(traceType(t))
	if err := proto.Unmarshal(trace, m); err != nil {
		t.Fatal(err)
	}

	var packets []protoreflect.Message

	list := m.Get(m.Descriptor().Fields().ByName("packet")).List()
	for i := range list.Len() {
		packets = append(packets, list.Get(i).Message())
	}

	return packets
}

// field is the value of a field: a message, or the zero value where it is not set.
func field(m protoreflect.Message, name protoreflect.Name) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(name))
}

func has(m protoreflect.Message, name protoreflect.Name) bool {
	return m.Has(m.Descriptor().Fields().ByName(name))
}

// text prints packets, each on one line. The ids of tracks are numbered in the order of their descriptors.
func text(t testing.TB, packets []protoreflect.Message) string {
	t.Helper()

	var b strings.Builder
	p := printer{t: t, Builder: &b, ids: map[uint64]int{}}

	for _, m := range packets {
		p.message(m)
		b.WriteByte('\n')
	}

	return b.String()
}

type printer struct {
	t testing.TB
	*strings.Builder
	ids map[uint64]int
}

func (p printer) message(m protoreflect.Message) {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		p.t.Errorf("got fields of %s that it does not have: %x", m.Descriptor().Name(), []byte(unknown))
	}

	fields, separator := m.Descriptor().Fields(), ""

	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) || f.Name() == "trusted_packet_sequence_id" || f.Name() == "timestamp_clock_id" {
			continue
		}

		if !f.IsList() {
			fmt.Fprint(p, separator, f.Name(), ": ")
			p.value(f, m.Get(f))
		} else {
			for i := range m.Get(f).List().Len() {
				fmt.Fprint(p, separator, f.Name(), ": ")
				p.value(f, m.Get(f).List().Get(i))
				separator = " "
			}
		}
		separator = " "
	}
}

func (p printer) value(f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case f.Kind() == protoreflect.MessageKind:
		p.WriteByte('{')
		p.message(v.Message())
		p.WriteByte('}')
	case strings.HasSuffix(string(f.Name()), "uuid"):
		if p.ids[v.Uint()] == 0 {
			p.ids[v.Uint()] = len(p.ids) + 1
		}

		fmt.Fprintf(p, "#%d", p.ids[v.Uint()])
	case f.Kind() == protoreflect.StringKind:
		fmt.Fprintf(p, "%q", v.String())
	default:
		fmt.Fprint(p, v.Interface())
	}
}
