package vsphere

import (
	"bytes"
	"encoding/xml"
	"fmt"

	"capstan/internal/hypervisor"
)

// ovfNetwork is what the description calls the machine's network.
const ovfNetwork = "network"

// descriptor describes a machine in the Open Virtualization Format (DMTF
// DSP0243 1.1), with the numbers that CIM has for kinds of devices
// (CIM_ResourceAllocationSettingData.ResourceType) and VMware's words for
// their models. Hardware version 13 is ESXi 6.5's.
func descriptor(name string, spec *hypervisor.RemoteSpec, capacity, sent int64) string {
	const form = `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
  xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References><File ovf:id="file1" ovf:href="disk.vmdk" ovf:size="%[6]d"/></References>
  <DiskSection><Info>Disks</Info>
    <Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="%[5]d" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
%[2]s  <VirtualSystem ovf:id="%[1]s"><Info>A machine of capstan's</Info><Name>%[1]s</Name>
    <OperatingSystemSection ovf:id="101" vmw:osType="other3xLinux64Guest"><Info>Linux</Info></OperatingSystemSection>
    <VirtualHardwareSection><Info>Hardware</Info>
      <System><vssd:ElementName>Hardware</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>
      <Item><rasd:ElementName>CPUs</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>%[3]d</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>Memory</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>%[4]d</rasd:VirtualQuantity></Item>
      <Item><rasd:Address>0</rasd:Address><rasd:ElementName>SCSI controller</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>Disk</rasd:ElementName><rasd:HostResource>ovf:/disk/disk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
%[7]s    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`
	const network = `  <NetworkSection><Info>Networks</Info><Network ovf:name="` + ovfNetwork + `"/></NetworkSection>
`
	const card = `      <Item><rasd:AutomaticAllocation>true</rasd:AutomaticAllocation><rasd:Connection>` + ovfNetwork + `</rasd:Connection><rasd:ElementName>Network</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
`
	networks, cards := network, card
	if spec.Guest.Network.None {
		networks, cards = "", ""
	}
	const mebi = 1 << 20
	return fmt.Sprintf(form, escaped(name), networks, spec.CPUs, memory(spec.Memory)/mebi, capacity, sent, cards)
}

// memory rounds a machine's up to whole 4 MiB, of which ESXi's have to be.
func memory(n int64) int64 {
	const step = 4 << 20
	return (n + step - 1) / step * step
}

func escaped(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // to memory
	return b.String()
}
