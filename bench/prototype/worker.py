from common import *; import struct
class Smpp(asyncio.Protocol):
    def __init__(s): s.buf=b"";s.seq=1;s.w={};s.sem=asyncio.Semaphore(500);s.on_receipt=None;s.acks=[];s.bound=asyncio.get_running_loop().create_future()
    def connection_made(s,t):
        s.t=t; b=b"u\0p\0\0\x34\0\0\0"; t.write(struct.pack(">IIII",16+len(b),9,0,1)+b)
    def data_received(s,data):
        s.buf+=data; o=0; b=s.buf; n=len(b)
        while n-o>=16:
            ln,cmd,st,seq=struct.unpack_from(">IIII",b,o)
            if n-o<ln: break
            if cmd==0x80000004:
                f=s.w.pop(seq,None)
                if f: f.set_result(b[o+16:o+ln-1].decode())
            elif cmd==5: s.on_receipt(s,seq,b[o+16:o+ln])
            elif cmd==0x80000009: s.bound.set_result(1)
            o+=ln
        s.buf=b[o:]
    def submit(s,to,text):
        s.seq+=1; q=s.seq; m=text.encode("latin1","replace")
        b=b"\0\x05\0ACME\0\x01\x01"+to.encode()+b"\0\0\0\0\0\0\x01\0\0\0"+bytes([len(m)])+m
        f=asyncio.get_running_loop().create_future(); s.w[q]=f
        s.out.append(struct.pack(">IIII",16+len(b),4,0,q)+b); return f
LINGER=float(os.environ.get('LINGER','0'))
async def main():
    loop=asyncio.get_running_loop(); pool=await asyncpg.create_pool(DSN,min_size=6,max_size=6); nc=await nats.connect(NATS); js=nc.jetstream(publish_async_max_pending=50000)
    _,p=await loop.create_connection(Smpp,"127.0.0.1",PORT["SIM"]); await p.bound; p.out=[]
    async def rec_flush(items):
        async with pool.acquire() as c: await c.execute("insert into receipts(carrier,ref,status) select 1,r,3 from unnest($1::text[]) r on conflict do nothing",[x[2] for x in items])
        p.t.write(b"".join(struct.pack(">IIII",17,0x80000005,0,x[1])+b"\0" for x in items))
        await js.publish_async("sms.receipt.1",orjson.dumps([x[2] for x in items]))
    rb=Batcher(rec_flush,max=1000,linger=float(os.environ.get('LINGER','0')))
    def on_receipt(s,seq,body):
        k=body.index(b"id:")+3; rb.put((s,seq,body[k:k+8].decode()))
    p.on_receipt=on_receipt
    sub=await js.pull_subscribe("sms.send.normal",durable="w",stream="SMS")
    async def handle(msgs):
        rows=[x for m in msgs for x in orjson.loads(m.data)]; ids=[uuid.UUID(hex=r[0]) for r in rows]
        async with pool.acquire() as c, c.transaction():
            ok=await c.fetch("update messages set status=1,attempts=attempts+1,updated_at=now() where id=any($1::uuid[]) and status=0 returning id",ids)
            await c.execute("insert into attempts(message_id,no) select i,1 from unnest($1::uuid[]) i",ids)
        fs=[p.submit(r[1],r[2]) for r in rows]; p.t.write(b"".join(p.out)); p.out=[]
        refs=await asyncio.gather(*fs)
        async with pool.acquire() as c, c.transaction():
            await c.execute("update messages m set status=greatest(status,2),ref=x.r,updated_at=now() from unnest($1::uuid[],$2::text[]) x(i,r) where m.id=x.i",ids,refs)
            await c.execute("insert into refs select 1,r,i from unnest($1::text[],$2::uuid[]) x(r,i)",refs,ids)
            await c.execute("delete from outbox where message_id=any($1::uuid[])",ids)
        for m in msgs: await m.ack()
    sem=asyncio.Semaphore(int(os.environ.get('WL','4')))
    async def one(msgs):
        try: await handle(msgs)
        finally: sem.release()
    while True:
        await sem.acquire()
        try: await asyncio.sleep(LINGER); msgs=await sub.fetch(200,timeout=5,)
        except nats.errors.TimeoutError: sem.release(); continue
        asyncio.create_task(one(msgs))
uvloop.install(); asyncio.run(main())
