package vswitch

import (
	"reflect"
	"testing"
)

// What ovs-vsctl 3.1 prints.
const database = `{"data":[["brx",["set",[["uuid","b"],["uuid","g"]]],"secure","netdev",["set",["OpenFlow14","OpenFlow15"]],false,false,false,["map",[["hwaddr","02:6d:6f:01:00:01"]]],["map",[]]]],"headings":["name","ports","fail_mode","datapath_type","protocols","mcast_snooping_enable","stp_enable","rstp_enable","other_config","external_ids"]}
{"data":[[["uuid","b"],"brx",["uuid","bi"]],[["uuid","g"],"gnv0",["uuid","gi"]]],"headings":["_uuid","name","interfaces"]}
{"data":[[["uuid","gi"],"gnv0","geneve",["map",[["key","7"],["remote_ip","flow"]]],-1,1,["set",[]],"could not add"],[["uuid","bi"],"brx","internal",["map",[]],65534,["set",[]],1386,["set",[]]]],"headings":["_uuid","name","type","options","ofport","ofport_request","mtu_request","error"]}
{"data":[[["map",[["flow-restore-wait","true"]]]]],"headings":["other_config"]}
`

func TestParseDatabase(t *testing.T) {
	bridges, err := parseDatabase([]byte(database))
	if err != nil {
		t.Fatal(err)
	}
	b := bridges["brx"]
	for column, want := range map[string]string{
		"fail_mode": "secure", "protocols": "OpenFlow14,OpenFlow15", "stp_enable": "false", "other_config:hwaddr": "02:6d:6f:01:00:01",
	} {
		if b.settings[column] != want {
			t.Errorf("%s: found %q, wanted %q", column, b.settings[column], want)
		}
	}
	if !b.waits {
		t.Error("the daemon waits for its flows, which was not seen")
	}
	want := map[string]bridgePort{
		"brx":  {Type: "internal", Options: map[string]string{}, OFPort: 65534, MTU: 1386},
		"gnv0": {Type: "geneve", Options: map[string]string{"key": "7", "remote_ip": "flow"}, OFPort: -1, Requested: 1, Error: "could not add"},
	}
	if !reflect.DeepEqual(b.ports, want) {
		t.Errorf("found %+v", b.ports)
	}
	for cut := range database {
		_, _ = parseDatabase([]byte(database[:cut])) // whatever comes, no panic
	}
}

func TestParseFlows(t *testing.T) {
	flows, err := parseFlows([]byte(`OFPST_FLOW reply (OF1.4) (xid=0x2):
 cookie=0x6d6f030000000001, duration=0.006s, table=10, n_packets=3, n_bytes=0, idle_age=1, hard_timeout=300, priority=1,vlan_tci=0x0064/0x0fff,dl_dst=02:00:00:00:00:09 actions=load:0x1->NXM_NX_REG1[0..15],load:0xa1e0102->NXM_NX_REG2[]
 priority=0 actions=learn(table=10,cookie=0x5),resubmit(,20)
`))
	if err != nil || len(flows) != 2 {
		t.Fatalf("found %v, %v", flows, err)
	}
	if f := flows[1]; f.table != 0 || f.cookie != 0 || f.match != "priority=0" {
		t.Errorf("the actions were taken for matches: %+v", f)
	}
	station, err := parseStation(flows[0], bridge{})
	if err != nil || station.MAC.String() != "02:00:00:00:00:09" || station.VLAN != 100 ||
		station.Port != "" || station.Remote.String() != "10.30.1.2" {
		t.Errorf("found %+v, %v", station, err)
	}
	if _, err := parseFlows([]byte("table=x actions=drop")); err == nil {
		t.Error("accepted a table that is no number")
	}
}
