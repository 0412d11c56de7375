from common import *; import hmac, hashlib, base64
SECRET=b"k"*32
LINGER=float(os.environ.get('LINGER','0'))
async def main():
    pool=await asyncpg.create_pool(DSN,min_size=6,max_size=6); nc=await nats.connect(NATS); js=nc.jetstream()
    conns=asyncio.Queue()
    for _ in range(32): conns.put_nowait(await asyncio.open_connection("127.0.0.1",PORT["SINK"]))
    async def done_flush(ids):
        async with pool.acquire() as c: await c.execute("update callbacks set done_at=now() where id=any($1::uuid[])",ids)
    db=Batcher(done_flush,max=1000,linger=float(os.environ.get('LINGER','0')))
    async def call(cid,mid,ref,to):
        body=orjson.dumps({"type":"message.delivered","timestamp":"2026-11-21T10:00:00Z","data":{"id":str(mid),"status":"DELIVERED","to":to,"segments":1,"price":{"amount":"0.0005","currency":"EUR"}}})
        ts=str(int(time.time())); i=cid.hex
        sig=base64.b64encode(hmac.digest(SECRET,b".".join((i.encode(),ts.encode(),body)),"sha256")).decode()
        r,w=await conns.get()
        w.write(f"POST /cb?id={to[-8:]}&s=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nwebhook-id: {i}\r\nwebhook-timestamp: {ts}\r\nwebhook-signature: v1,{sig}\r\nContent-Length: {len(body)}\r\n\r\n".encode()+body)
        h=await r.readuntil(b"\r\n\r\n"); await r.readexactly(2); conns.put_nowait((r,w)); db.put(cid)
    sub=await js.pull_subscribe("sms.receipt.1",durable="d",stream="SMS")
    async def handle(msgs):
        refs=[x for m in msgs for x in orjson.loads(m.data)]
        while refs:
            async with pool.acquire() as c: moved=await c.fetch("select * from settle_batch($1,$2)",refs,[uuid7() for _ in refs])
            for m in moved: asyncio.create_task(call(m[1],m[2],m[0],m[3]))
            have={m[0] for m in moved}; refs=[r for r in refs if r not in have]
            if refs: await asyncio.sleep(0.05)
        for m in msgs: await m.ack()
    sem=asyncio.Semaphore(2)
    async def one(msgs):
        try: await handle(msgs)
        finally: sem.release()
    while True:
        await sem.acquire()
        try: await asyncio.sleep(LINGER); msgs=await sub.fetch(200,timeout=5)
        except nats.errors.TimeoutError: sem.release(); continue
        asyncio.create_task(one(msgs))
uvloop.install(); asyncio.run(main())
